"""The answer to a lookup is bounded, whatever is stored; equal ids are read once."""

import json
from typing import Any

import pytest
from sqlalchemy import event, text

from producer.schemas import Kind
from support.databases import store_roster
from worker.answer_size import AnswerTooLarge
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.enrollment.lookups import request_statuses, student_results, students
from worker.enrollment.repository import find_results_up_to
from worker.refused_lines.lookups import refused_records
from worker.service import add_enrollments
from worker.tasks.answer import to_json

SMALL = 30_000
"""The largest answer in these tests, so that they are quick."""


@pytest.fixture(autouse=True)
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("worker.answer_size.MAX_ANSWER", "worker.refused_lines.lookups.MAX_ANSWER"):
        monkeypatch.setattr(module, SMALL)


@pytest.fixture
def wide(database: Database) -> Database:
    """A database in which every answer can be large: long texts, many courses and results."""
    courses = [f"{n}-" + "é" * 10 + "e" * 60 for n in range(300)]
    store_roster(database, ["S", *(f"T{n}" for n in range(20))], courses)
    for number in range(60):
        student = "S" if number < 40 else f"T{number - 40}"
        request = {"student_id": student, "course_ids": courses[number * 5 : number * 5 + 5]}
        refused = {"student_id": student, "course_ids": [f"{n}" + "ö" * 60 for n in range(3)]}
        for name, record in ((f"good-{number}", request), (f"bad-{number}", refused)):
            add_enrollments(database, [read_request(name, [record], {})])
    return database


def size_of(answer: Any) -> int:
    return len(json.dumps(to_json(answer), separators=(",", ":")))


def statements_of(database: Database) -> list[str]:
    """Return a list to which every statement is added from now on."""
    seen: list[str] = []
    event.listen(
        database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: seen.append(statement),
    )
    return seen


def test_an_answer_is_refused_before_it_is_too_large(wide: Database) -> None:
    all_of_them = [f"{kind}-{n}" for kind in ("good", "bad") for n in range(60)]
    with pytest.raises(AnswerTooLarge, match="fewer than 120 ids"):
        request_statuses(wide, all_of_them, {})
    some = request_statuses(wide, all_of_them[:20], {})
    assert size_of(some) <= SMALL * 1.1
    assert all(status.state == "done" for status in some)


def test_what_is_too_much_is_not_even_read(wide: Database) -> None:
    names = [f"bad-{n}" for n in range(60)]
    with wide.reading() as connection:
        everything = find_results_up_to(connection, names, 10**9)
        assert len(everything.results) == 60
        largest = everything.characters // 60 + 100
        for most in (1, SMALL // 2, SMALL):
            some = find_results_up_to(connection, names, most)
            assert most <= some.characters <= most + largest
            assert some.results == everything.results[: len(some.results)]


@pytest.mark.parametrize(("ids", "limit"), [(["S"], 1000), (["S"] * 100, 10), (["S", "T1"], 500)])
def test_results_are_bounded(wide: Database, ids: list[str], limit: int) -> None:
    with pytest.raises(AnswerTooLarge, match="fewer ids at a time, or set a smaller limit"):
        student_results(wide, ids, limit)
    (newest,) = student_results(wide, ["S"], 5)
    assert len(newest) == 5


def test_equal_ids_are_read_once_and_answered_each(wide: Database) -> None:
    seen = statements_of(wide)
    (once,) = student_results(wide, ["T1"], 10)
    statements = len(seen)
    seen.clear()
    assert student_results(wide, ["T1"] * 5, 10) == [once] * 5
    assert len(seen) == statements
    assert students(wide, ["T1", "T2", "T1"])[0] == students(wide, ["T1"])[0]
    assert request_statuses(wide, ["good-1"] * 3, {}) == request_statuses(wide, ["good-1"], {}) * 3


def test_a_key_and_a_sis_id_are_different_ids(wide: Database) -> None:
    by_key, by_name, none = students(wide, [3, "T1", "3"])
    assert by_key == by_name
    assert none is None


def test_repeated_ids_count_as_often_as_they_are_in_the_answer(wide: Database) -> None:
    (one,) = request_statuses(wide, ["bad-1"], {})
    times = 2 * SMALL // size_of(one)
    with pytest.raises(AnswerTooLarge):
        request_statuses(wide, ["bad-1"] * times, {})


def test_the_courses_of_students_are_bounded(wide: Database) -> None:
    with pytest.raises(AnswerTooLarge, match="of this id from the database"):
        students(wide, ["S"])
    with pytest.raises(AnswerTooLarge, match="fewer than 21 ids"):
        students(wide, ["S", *(f"T{n}" for n in range(20))])
    assert len(students(wide, [f"T{n}" for n in range(3)])) == 3


def test_the_columns_of_batches_are_bounded(database: Database) -> None:
    for number in range(10):
        columns = ["é" * 1_000, f"{number}"]
        payload = {"batch_id": f"b{number}", "number": 0, "last": True, "columns": columns}
        apply_chunk(database, Kind.STUDENTS, payload)
    with pytest.raises(AnswerTooLarge, match="fewer than 10 ids"):
        batch_statuses(database, [f"b{number}" for number in range(10)], {}, refusals=True)
    with pytest.raises(AnswerTooLarge, match="fewer than 1000 ids"):
        batch_statuses(database, ["b1"] * 1000, {}, refusals=True)
    (one,) = batch_statuses(database, ["b1"], {}, refusals=True)
    assert one.columns == ("é" * 1_000, "1")


def test_a_page_of_long_refusals_ends_early_and_the_next_one_goes_on(database: Database) -> None:
    records = [{"sis_id": "x" * 10_000, "name": number} for number in range(20)]
    records[7] = {"sis_id": "x" * SMALL * 2}
    payload = {"batch_id": "b", "number": 0, "last": True, "records": records}
    apply_chunk(database, Kind.STUDENTS, payload)
    read = []
    pages = []
    after = (0, 0)
    while page := refused_records(database, "b", after, 1000):
        after = (page[-1].line, page[-1].id)
        read += page
        pages.append(size_of(page))
    assert [r.record for r in read if r.record is not None] == records
    assert len(pages) > 5
    # A page may exceed the limit by the last record in it, because it must have one.
    assert max(pages) <= SMALL + 2 * SMALL + 1_000


def test_a_large_record_is_not_read_beyond_the_page(database: Database) -> None:
    """The database itself ends the page: what follows is not sent."""
    records = [{"sis_id": "x" * SMALL} for _ in range(5)]
    payload = {"batch_id": "b", "number": 0, "last": True, "records": records}
    apply_chunk(database, Kind.STUDENTS, payload)
    with database.reading() as connection:
        stored = connection.execute(text("SELECT count(*) FROM batch_refusals")).scalar_one()
    assert stored == 5
    assert len(refused_records(database, "b", (0, 0), 1000)) == 1
