"""Chunks: applied once, the books balance, every refused line says why. On both databases."""

import threading
from typing import Any

import pytest
from sqlalchemy import text

from producer.contract.batches import BatchStatus
from producer.contract.chunks import Chunk, RefusedLine, Tally
from producer.contract.marks import AgedMark, SubmissionMark
from producer.schemas import Kind
from worker.batches import apply
from worker.batches.apply import ChunkOutcome
from worker.batches.repository import newest_batches
from worker.batches.state import STALLED_SECONDS
from worker.batches.status import batch_statuses, refused_records
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.enrollment import lookups
from worker.enrollment.lookups import student_results
from worker.models import LetterForm, LetterReason


def apply_chunk(database: Database, kind: Kind, chunk: Chunk) -> ChunkOutcome:
    """As the worker gets it: the text of a chunk."""
    return apply.apply_chunk(database, kind, chunk.model_dump_json()).outcome


def chunk(*records: Any, batch_id: str = "b", number: int = 0, **fields: Any) -> Chunk:
    return Chunk(batch_id=batch_id, number=number, records=records, **{"last": True, **fields})


def pairs(student: str, *courses: str, **fields: Any) -> dict[str, Any]:
    return {"student_id": student, "course_ids": list(courses), "atomic": False, **fields}


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    students = chunk({"sis_id": "A"}, {"sis_id": "B"}, batch_id="students")
    courses = chunk({"sis_id": "M1"}, {"sis_id": "M2"}, batch_id="courses")
    assert apply_chunk(database, Kind.STUDENTS, students) is ChunkOutcome.APPLIED
    assert apply_chunk(database, Kind.COURSES, courses) is ChunkOutcome.APPLIED


def status(database: Database, batch_id: str = "b") -> BatchStatus:
    return batch_statuses(database, [batch_id], {}, refusals=True)[0]


def books(database: Database, batch_id: str = "b") -> dict[str, int]:
    found = status(database, batch_id).books.model_dump()
    received = found["received"]
    assert received == sum(found.values()) - received
    return {name: count for name, count in found.items() if count}


def test_a_chunk_keeps_its_good_requests_and_refuses_the_others(database: Database) -> None:
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
def test_another_content_under_a_chunks_number_is_refused(database: Database, kind: Kind) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1")))
    before = status(database)
    other = chunk(pairs("B", "M2")) if kind is Kind.ENROLLMENTS else chunk({"sis_id": "C"})
    assert apply_chunk(database, kind, other) is ChunkOutcome.CONFLICT
    later = chunk({"sis_id": "C"}, number=1)
    assert apply_chunk(database, Kind.STUDENTS, later) is ChunkOutcome.CONFLICT
    assert status(database) == before
    assert lookups.students(database, ["C"]) == [None]


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
    """Each row is added by exactly one of them, whatever the order of their records."""
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


def test_a_request_id_of_an_earlier_batch_is_not_done_again(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1", request_id="r")))
    again = chunk(pairs("A", "M1", request_id="r"), batch_id="b2")
    apply_chunk(database, Kind.ENROLLMENTS, again)
    assert books(database, "b2") == {"received": 1, "already_enrolled": 1}
    ((result,),) = student_results(database, ["A"], 10)
    assert result.batch_id == "b"


def test_a_roster_is_added_changed_and_left_alone(database: Database) -> None:
    first = chunk(
        {"sis_id": "C", "name": "Cleo"},
        {"sis_id": "C", "email": "c@example.edu"},
        {"sis_id": "D"},
        batch_id="one",
    )
    apply_chunk(database, Kind.STUDENTS, first)
    assert books(database, "one") == {"received": 3, "upserted": 2, "unchanged": 1}
    second = chunk(
        {"sis_id": "C"}, {"sis_id": "D", "name": "Dan"}, {"sis_id": "A"}, {}, batch_id="two"
    )
    apply_chunk(database, Kind.STUDENTS, second)
    assert books(database, "two") == {
        "received": 4,
        "upserted": 1,
        "unchanged": 2,
        "rejected": 1,
    }
    cleo, dan = lookups.students(database, ["C", "D"])
    assert cleo is not None
    assert dan is not None
    assert (cleo.name, cleo.email, dan.name) == ("Cleo", "c@example.edu", "Dan")


def test_a_student_in_two_chunks_at_once_is_added_once(database: Database) -> None:
    records = [{"sis_id": f"S{n:04}"} for n in range(2000)]
    start = threading.Barrier(3)

    def deliver(number: int) -> None:
        start.wait()
        apply_chunk(database, Kind.STUDENTS, chunk(*records, number=number, batch_id="same"))

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert books(database, "same") == {"received": 6000, "upserted": 2000, "unchanged": 4000}


def test_an_unchanged_roster_uses_up_no_keys(database: Database) -> None:
    for number in range(3):
        same = chunk({"sis_id": "A"}, {"sis_id": "B"}, number=number, batch_id="again")
        apply_chunk(database, Kind.STUDENTS, same)
    apply_chunk(database, Kind.STUDENTS, chunk({"sis_id": "C"}, batch_id="new"))
    (new,) = lookups.students(database, ["C"])
    assert new is not None
    assert new.id == 3


def test_the_books_balance_while_chunks_are_missing(database: Database) -> None:
    first = chunk(pairs("A", "M1"), last=False)
    third = chunk(pairs("B", "M1"), number=2, before=Tally(requests=2, rows=3))
    apply_chunk(database, Kind.ENROLLMENTS, third)
    apply_chunk(database, Kind.ENROLLMENTS, first)
    assert books(database) == {"received": 4, "enrolled": 2, "not_applied": 2}
    found = status(database)
    assert (found.state, found.chunks, found.chunks_applied) == ("running", 3, 2)
    second = chunk(pairs("B", "M2", "M1"), number=1, before=Tally(requests=1, rows=1))
    apply_chunk(database, Kind.ENROLLMENTS, second.model_copy(update={"last": False}))
    assert status(database).state == "done"
    assert books(database) == {"received": 4, "enrolled": 3, "already_enrolled": 1}


def test_a_batch_of_chunks_that_do_not_belong_together_is_not_done(database: Database) -> None:
    """As when the same file is cut in another way under the same name."""
    first = chunk(pairs("A", "M1"), pairs("A", "M2"), last=False)
    other_first = chunk(pairs("A", "M1"), pairs("A", "M2"), pairs("B", "M1"), last=False)
    other_second = chunk(pairs("B", "M2"), number=1, before=Tally(requests=3, rows=3))
    assert apply_chunk(database, Kind.ENROLLMENTS, first) is ChunkOutcome.APPLIED
    assert apply_chunk(database, Kind.ENROLLMENTS, other_first) is ChunkOutcome.CONFLICT
    assert apply_chunk(database, Kind.ENROLLMENTS, other_second) is ChunkOutcome.APPLIED
    assert status(database).state == "done"  # Its publisher may have counted wrong.
    letter = dead_letter(
        LetterForm.CALL,
        b"the other first",
        LetterReason.CONFLICT,
        "another was applied",
        batch_id="b",
    )
    keep(database, letter)
    found = status(database)
    assert (found.state, found.chunks, found.chunks_missing) == ("stalled", 2, 0)
    assert found.finished_at is None
    assert found.advice is not None
    assert "another was applied" in found.advice
    assert "new batch id" in found.advice
    assert books(database) == {"received": 4, "enrolled": 3, "not_applied": 1}
    with database.reading() as connection:
        assert newest_batches(connection, 10, 0, perhaps_unfinished=True) == ["b"]


def test_an_empty_batch_is_done(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk())
    assert (status(database).state, books(database)) == ("done", {})


def test_what_a_submitter_left_tells_queued_from_unknown(database: Database) -> None:
    left = SubmissionMark(kind=Kind.ENROLLMENTS, tally=Tally(requests=2, rows=5))
    queued, unknown = batch_statuses(
        database, ["q", "u"], {"q": AgedMark(left, 1.0)}, refusals=True
    )
    assert (queued.state, queued.books.received, queued.books.not_applied) == ("queued", 5, 5)
    assert unknown.state == "unknown"


def test_a_failed_commit_leaves_nothing_of_a_chunk(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1"), batch_id="before"))
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE batch_refusals RENAME TO elsewhere"))
    with pytest.raises(Exception, match="batch_refusals"):
        apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("B", "M1"), pairs("Z", "M1")))
    assert status(database).state == "unknown"
    assert lookups.students(database, ["B"])[0].courses == ()  # type: ignore[union-attr]


def test_a_batch_of_which_nothing_comes_any_more_is_stalled(database: Database) -> None:
    def told(chunks: int, *, complete: bool, seconds_ago: float) -> BatchStatus:
        tally = Tally(requests=chunks, rows=chunks)
        left = SubmissionMark(kind=Kind.ENROLLMENTS, tally=tally, chunks=chunks, complete=complete)
        found = {"b": AgedMark(left, seconds_ago)}
        return batch_statuses(database, ["b"], found, refusals=False)[0]

    long_ago = STALLED_SECONDS + 1
    assert told(2, complete=True, seconds_ago=1).state == "queued"
    assert told(2, complete=True, seconds_ago=long_ago).state == "stalled"
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1"), last=False))
    assert told(2, complete=True, seconds_ago=long_ago).state == "running"
    with database.writing() as connection:
        connection.execute(text("UPDATE batch_chunks SET applied_at = '2026-01-01 00:00:00+00:00'"))
    for complete, why in ((True, "chunks are missing"), (False, "the submitter stopped")):
        status = told(2, complete=complete, seconds_ago=long_ago)
        assert (status.state, status.chunks_missing) == ("stalled", 1)
        assert status.advice is not None
        assert why in status.advice
        assert "--resume" in status.advice
    assert told(1, complete=True, seconds_ago=long_ago).state == "done"


def test_refusals_are_read_page_by_page_in_the_order_of_their_lines(database: Database) -> None:
    records = [pairs("A", f"X{n}", f"Y{n}") for n in range(5)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*records, lines=[9, 7, 5, 3, 1]))
    read = []
    after = (0, 0)
    while page := refused_records(database, "b", after, 3):
        read += [(one.line, one.message) for one in page]
        after = (page[-1].line, page[-1].id)
    assert [line for line, _ in read] == [1, 1, 3, 3, 5, 5, 7, 7, 9, 9]
    assert len(set(read)) == 10


def test_a_large_chunk_is_written_as_a_small_one_is(database: Database) -> None:
    """COPY with what a text may hold, a race with a row that is there, and every outcome."""
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


def test_a_roster_record_that_looks_like_a_request_is_one_refusal(database: Database) -> None:
    odd = {"sis_id": "Z", "course_ids": ["M1", "M2"]}
    sent = chunk(odd, {"sis_id": "Y"}, lines=[4, 4, 5], batch_id="odd")
    apply_chunk(database, Kind.STUDENTS, sent)
    assert books(database, "odd") == {"received": 3, "upserted": 1, "rejected": 2}
    assert [group.first_lines for group in status(database, "odd").refusals] == [(4,)]


def test_requests_as_columns_are_decided_as_records_are(database: Database) -> None:
    """All found, one unknown, one that breaks the contract, a row asked for twice."""
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
            with database.writing() as connection:
                connection.execute(text("DELETE FROM student_courses"))
            apply.apply_chunk(database, Kind.ENROLLMENTS, payload)
        columns, records = (status(database, f"{form} {number}") for form in ("columns", "records"))
        assert columns.books == records.books
        assert columns.requests_rejected == records.requests_rejected
        assert columns.refusals == records.refusals
    for results in student_results(database, ["A", "B"], 100):
        told = [
            (r.status, [(c.sis_id, c.added) for c in r.enrolled_courses], len(r.errors))
            for r in sorted(results, key=lambda r: r.request_id)
        ]
        half = len(told) // 2
        assert told[:half] == told[half:]
