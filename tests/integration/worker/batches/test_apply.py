"""Chunks: applied once, in one transaction; every refused line says why. On both databases."""

import threading
from typing import Any

import pytest
from sqlalchemy import select, text

from producer.contract.chunks import RefusedLine
from producer.fields import MAX_KEY
from producer.schemas import Kind
from support.chunks import apply_chunk, books, chunk, pairs, status
from worker.batches import apply
from worker.batches.apply import ChunkOutcome
from worker.database.engine import Database
from worker.enrollment import lookups
from worker.enrollment.lookups import student_results
from worker.intervals.repository import end_enrollments
from worker.intervals.values import Drop
from worker.models import StudentCourse
from worker.moments import own_clock


def test_a_chunk_applies_its_good_requests_and_refuses_the_others(database: Database) -> None:
    mixed = chunk(
        pairs("A", "M1", "X"),
        pairs("Z", "M1"),
        {"student_id": 1.5, "course_ids": ["M1"]},
        "what is this",
        pairs("B", "M1", "M2"),
        refused=(RefusedLine(line=9, message="not UTF-8"),),
    )
    assert apply_chunk(database, Kind.ENROLLMENTS, mixed) is ChunkOutcome.APPLIED
    assert books(database) == {"received": 8, "enrolled": 3, "rejected": 5}
    found = status(database)
    assert found.state == "done"
    assert (found.requests, found.requests_rejected) == (6, 4)
    assert [(g.code, g.count, g.first_lines) for g in found.refusals] == [
        ("invalid_request", 3, (3, 4, 9)),
        ("unknown_course", 1, (1,)),
        ("unknown_student", 1, (2,)),
    ]


def test_a_grouped_request_names_the_line_of_each_refused_pair(database: Database) -> None:
    grouped = chunk(pairs("A", "X", "M1", "Y"), pairs("Z", "M1", "M2"), lines=(7, 9, 12, 8, 10))
    apply_chunk(database, Kind.ENROLLMENTS, grouped)
    lines = {g.code.value: g.first_lines for g in status(database).refusals}
    assert lines == {"unknown_course": (7, 12), "unknown_student": (8, 10)}
    ((result,),) = student_results(database, ["A"], 10)
    assert [(e.course_id, e.line) for e in result.errors] == [("X", 7), ("Y", 12)]
    with database.reading() as connection:
        record = connection.execute(text("SELECT record FROM batch_refusals WHERE line = 10"))
        assert "M2" in str(record.scalar_one())


def test_a_second_delivery_of_a_chunk_changes_nothing(database: Database) -> None:
    once = chunk(pairs("A", "M1"), pairs("Z", "M1"))
    apply_chunk(database, Kind.ENROLLMENTS, once)
    before = status(database)
    assert apply_chunk(database, Kind.ENROLLMENTS, once) is ChunkOutcome.REPEATED
    assert status(database) == before


@pytest.mark.parametrize("kind", [Kind.ENROLLMENTS, Kind.STUDENTS])
def test_a_different_chunk_under_the_same_number_is_refused(database: Database, kind: Kind) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1")))
    before = status(database)
    other = chunk(pairs("B", "M2")) if kind is Kind.ENROLLMENTS else chunk({"sis_id": "C"})
    assert apply_chunk(database, kind, other) is ChunkOutcome.CONFLICT
    later = chunk({"sis_id": "C"}, number=1)
    assert apply_chunk(database, Kind.STUDENTS, later) is ChunkOutcome.CONFLICT
    assert status(database) == before
    assert lookups.students(database, ["C"]) == [None]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("number", [2, 3, MAX_KEY])
def test_no_chunk_is_applied_after_the_last_one(
    database: Database, number: int, last: bool
) -> None:
    # The last chunk may be applied first.
    for arriving in (1, 0):
        mine = chunk(pairs("A", "M1"), number=arriving, last=arriving == 1)
        assert apply_chunk(database, Kind.ENROLLMENTS, mine) is ChunkOutcome.APPLIED
    before = status(database)
    assert before.state == "done"
    other = chunk(pairs("B", "M2"), number=number, last=last)
    assert apply_chunk(database, Kind.ENROLLMENTS, other) is ChunkOutcome.CONFLICT
    assert status(database) == before
    assert lookups.students(database, ["B"])[0].courses == ()  # type: ignore[union-attr]


def test_concurrent_deliveries_of_one_chunk_apply_it_once(database: Database) -> None:
    records = [pairs(student, course) for student in "AB" for course in ("M1", "M2")]
    outcomes: list[ChunkOutcome] = []
    start = threading.Barrier(5)

    def deliver() -> None:
        start.wait()
        outcomes.append(apply_chunk(database, Kind.ENROLLMENTS, chunk(*records)))

    threads = [threading.Thread(target=deliver) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["applied", *["repeated"] * 4]
    assert books(database) == {"received": 4, "enrolled": 4}


def test_concurrent_chunks_over_the_same_rows_do_not_deadlock(database: Database) -> None:
    """Each row is added by exactly one of the chunks, whatever the order of their records."""
    students = [{"sis_id": f"S{n:03}"} for n in range(60)]
    courses = [{"sis_id": f"K{n:03}"} for n in range(20)]
    apply_chunk(database, Kind.STUDENTS, chunk(*students, batch_id="more students"))
    apply_chunk(database, Kind.COURSES, chunk(*courses, batch_id="more courses"))
    records = [pairs(s["sis_id"], *(c["sis_id"] for c in courses)) for s in students]
    start = threading.Barrier(4)

    def deliver(number: int) -> None:
        mine = records if number % 2 else records[::-1]
        start.wait()
        apply_chunk(database, Kind.ENROLLMENTS, chunk(*mine, number=number, last=number == 3))

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert books(database) == {"received": 4800, "enrolled": 1200, "already_enrolled": 3600}


def test_a_repeated_request_id_in_a_chunk_is_one_request(database: Database) -> None:
    named = chunk(
        pairs("A", "M1", request_id="r"),
        pairs("A", "M1", request_id="r"),
        pairs("B", "M2", request_id="r"),
    )
    apply_chunk(database, Kind.ENROLLMENTS, named)
    assert books(database) == {
        "received": 3,
        "enrolled": 1,
        "already_enrolled": 1,
        "rejected": 1,
    }
    assert [g.code for g in status(database).refusals] == ["request_id_reused"]
    assert lookups.students(database, ["B"])[0].courses == ()  # type: ignore[union-attr]


def test_a_request_id_of_an_earlier_batch_is_not_decided_again(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1", request_id="r")))
    again = chunk(pairs("A", "M1", request_id="r"), batch_id="b2")
    apply_chunk(database, Kind.ENROLLMENTS, again)
    assert books(database, "b2") == {"received": 1, "already_enrolled": 1}
    ((result,),) = student_results(database, ["A"], 10)
    assert result.batch_id == "b"


def test_a_corrected_request_needs_a_new_id_unless_it_broke_the_contract(
    database: Database,
) -> None:
    broken = {**pairs("B", "M1", request_id="broken"), "atomic": "perhaps"}
    refused = chunk(pairs("Z", "M1", request_id="unknown"), broken)
    apply_chunk(database, Kind.ENROLLMENTS, refused)
    assert books(database) == {"received": 2, "rejected": 2}
    corrected = chunk(
        pairs("A", "M1", request_id="unknown"), pairs("B", "M1", request_id="broken"), batch_id="b2"
    )
    apply_chunk(database, Kind.ENROLLMENTS, corrected)
    assert books(database, "b2") == {"received": 2, "enrolled": 1, "rejected": 1}
    refusals = status(database, "b2").refusals
    assert [(g.code, g.first_lines) for g in refusals] == [("request_id_reused", (1,))]


def test_a_failed_commit_leaves_nothing_of_a_chunk(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1"), batch_id="before"))
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE batch_refusals RENAME TO elsewhere"))
    with pytest.raises(Exception, match="batch_refusals"):
        apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("B", "M1"), pairs("Z", "M1")))
    assert status(database).state == "unknown"
    assert lookups.students(database, ["B"])[0].courses == ()  # type: ignore[union-attr]


def test_a_large_chunk_writes_the_same_rows_as_small_ones(database: Database) -> None:
    """COPY handles any text and rows that exist already, and every status of a result occurs."""
    odd = ['"', "\\", "\t\n\r", "NULL", "{,}", "é\u2028", "  "]
    names = [f"{mark}{n}" for n in range(100) for mark in odd]
    apply_chunk(database, Kind.STUDENTS, chunk(*({"sis_id": n} for n in names), batch_id="odd"))
    there = chunk(*(pairs(name, "M1") for name in names[:50]), batch_id="there")
    apply_chunk(database, Kind.ENROLLMENTS, there)
    records = [pairs(name, "M1", "M2", "N1") for name in names]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*records))
    count = len(names)
    expected = {"received": 3 * count, "enrolled": 2 * count - 50, "already_enrolled": 50}
    assert books(database) == {**expected, "rejected": count}
    found = lookups.students(database, names)
    assert [s.sis_id for s in found if s] == names
    assert all([c.sis_id for c in s.courses] == ["M1", "M2"] for s in found if s)
    ((newest, *_),) = student_results(database, names[:1], 2)
    assert [(c.sis_id, c.added) for c in newest.enrolled_courses] == [("M1", False), ("M2", True)]
    assert [e.course_id for e in newest.errors] == ["N1"]


def end_all_enrollments(database: Database) -> None:
    with database.writing() as connection:
        enrolled = connection.execute(select(StudentCourse.student_id, StudentCourse.course_id))
        drop = Drop(own_clock(), None, "another system")
        end_enrollments(connection, dict.fromkeys(((s, c) for s, c in enrolled), drop))


def test_requests_get_the_same_results_as_columns_and_as_records(database: Database) -> None:
    """Cases: all found, one unknown, one that breaks the contract, a row requested twice."""
    several: list[tuple[list[Any], list[Any]]] = [
        (["A", "B"], [["M1", "M2"], ["M1"]]),
        (["A", "Z", "B"], [["M1", "X"], ["M1"], ["M2"]]),
        (["A", True, "B"], [["M1"], ["M1"], ["X"]]),
        (["A", "B", "A"], [["M2"], ["M1", "M1"], ["M2", "M1"]]),
    ]
    for number, (students, courses) in enumerate(several):
        for form in ("columns", "records"):
            if form == "columns":
                fields = {"requests": {"student_ids": students, "course_ids": courses}}
                fields["requests"]["atomic"] = False  # type: ignore[assignment]
            else:
                both = zip(students, courses, strict=True)
                fields = {"records": [pairs(s, *c) for s, c in both]}  # type: ignore[dict-item]
            payload = {"batch_id": f"{form} {number}", "number": 0, "last": True, **fields}
            end_all_enrollments(database)
            apply.apply_chunk(database, Kind.ENROLLMENTS, payload)
        columns, records = (status(database, f"{form} {number}") for form in ("columns", "records"))
        assert columns.books == records.books
        assert columns.requests_rejected == records.requests_rejected
        assert columns.refusals == records.refusals
    for results in student_results(database, ["A", "B"], 100):
        shown = [
            (r.status, [(c.sis_id, c.added) for c in r.enrolled_courses], len(r.errors))
            for r in sorted(results, key=lambda r: r.request_id)
        ]
        half = len(shown) // 2
        assert shown[:half] == shown[half:]
