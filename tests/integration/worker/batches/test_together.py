"""Small chunks applied in one transaction: each as if it were applied alone. On both databases."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from producer.contract.chunks import Chunk, RefusedLine
from producer.contract.file_forms import FileForm
from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import books, chunk, pairs, status
from worker.batches import apply
from worker.batches.apply import Applied, ChunkOutcome, read_chunk
from worker.batches.together import ReceivedChunk, apply_together
from worker.database.engine import Database
from worker.enrollment.lookups import student_results
from worker.models import (
    Batch,
    BatchChunk,
    BatchRefusal,
    EnrollmentResult,
    PastEnrollment,
    StudentCourse,
)

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)

APPLIED, REPEATED = ChunkOutcome.APPLIED, ChunkOutcome.REPEATED
CONFLICT = ChunkOutcome.CONFLICT


def received(each: Chunk, moment: datetime | None = None, **origin: Any) -> ReceivedChunk:
    """Return a chunk as a worker reads it, of a batch with this moment."""
    text = each.model_dump_json(exclude_none=True)
    parsed = read_chunk(Kind.ENROLLMENTS, text)
    return ReceivedChunk(*parsed, BatchOrigin(moment=moment, **origin))


def together(database: Database, *chunks: ReceivedChunk) -> list[Applied]:
    return apply_together(database, chunks, clock=lambda: NOW)


def outcomes(database: Database, *chunks: ReceivedChunk) -> list[ChunkOutcome]:
    return [applied.outcome for applied in together(database, *chunks)]


def drop(student: str, *courses: str) -> dict[str, Any]:
    return {"student_id": student, "drop_course_ids": list(courses)}


def enrolled(database: Database) -> dict[tuple[int, int], datetime]:
    """Return the pairs that are enrolled, each with the moment that opened it."""
    with database.reading() as connection:
        rows = connection.execute(
            text("SELECT student_id, course_id, enrolled_at FROM student_courses")
        )
        return {(row[0], row[1]): _utc(row[2]) for row in rows}


def _utc(stored: Any) -> datetime:
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def test_each_chunk_has_its_own_counts_refusals_and_results(database: Database) -> None:
    applied = together(
        database,
        received(chunk(pairs("A", "M1"), pairs("Z", "M1"), batch_id="one"), NOW),
        received(chunk(pairs("A", "M1", "M2"), batch_id="two"), NOW),
        received(
            chunk("what?", batch_id="three", refused=(RefusedLine(line=9, message="torn"),)), NOW
        ),
        received(chunk(batch_id="empty"), NOW),
    )
    assert [each.outcome for each in applied] == [APPLIED] * 4
    assert books(database, "one") == {"received": 2, "enrolled": 1, "rejected": 1}
    assert books(database, "two") == {"received": 2, "enrolled": 1, "already_enrolled": 1}
    assert books(database, "three") == {"received": 2, "rejected": 2}
    assert books(database, "empty") == {}
    assert [status(database, name).state for name in ("one", "two", "three", "empty")] == [
        "done"
    ] * 4
    assert [g.first_lines for g in status(database, "three").refusals] == [(1, 9)]
    ((newest, older),) = student_results(database, ["A"], 10)
    assert {newest.batch_id, older.batch_id} == {"one", "two"}
    assert applied[0].requests == {"enrolled": 1, "rejected": 1}
    assert applied[0].refused == {"unknown_student": 1}


def test_a_batch_is_stored_as_its_first_chunk_describes_it(database: Database) -> None:
    columns, form = ("student_sis_id", "course_sis_id"), FileForm(delimiter=";")
    first = chunk(pairs("A", "M1"), columns=columns, form=form, last=False)
    second = chunk(pairs("B", "M1"), number=1)
    together(
        database,
        received(first, NOW - SECOND, file_name="a.csv", submitter="registrar"),
        received(second, NOW, file_name="b.csv"),
    )
    found = status(database)
    assert (found.file_name, found.submitter) == ("a.csv", "registrar")
    assert found.submitted_at == NOW - SECOND
    assert enrolled(database) == dict.fromkeys([(1, 1), (2, 1)], NOW - SECOND)


def test_a_repeated_chunk_changes_nothing_and_holds_up_no_other(database: Database) -> None:
    once = received(chunk(pairs("A", "M1"), batch_id="one"), NOW)
    assert outcomes(database, once, once) == [APPLIED, REPEATED]
    other = received(chunk(pairs("B", "M1"), batch_id="two"), NOW)
    assert outcomes(database, other, once) == [APPLIED, REPEATED]
    assert books(database, "one") == books(database, "two") == {"received": 1, "enrolled": 1}


def test_a_chunk_in_conflict_changes_nothing_and_holds_up_no_other(database: Database) -> None:
    first = received(chunk(pairs("A", "M1"), batch_id="one"), NOW)
    other = received(chunk(pairs("A", "M2"), batch_id="one"), NOW)
    after_the_end = received(chunk(pairs("A", "M2"), batch_id="one", number=1), NOW)
    good = received(chunk(pairs("B", "M1"), batch_id="two"), NOW)
    expected = [APPLIED, CONFLICT, CONFLICT, APPLIED]
    assert outcomes(database, first, other, after_the_end, good) == expected
    again = [REPEATED, CONFLICT, CONFLICT, REPEATED]
    assert outcomes(database, first, other, after_the_end, good) == again
    assert enrolled(database) == dict.fromkeys([(1, 1), (2, 1)], NOW)


def test_a_batch_with_another_kind_of_records_is_a_conflict(database: Database) -> None:
    roster = chunk({"sis_id": "M3"}, batch_id="one", last=False)
    apply.apply_chunk(database, Kind.COURSES, roster.model_dump_json())
    sent = [received(chunk(pairs("A", "M1"), batch_id="one", number=n), NOW) for n in (0, 1)]
    good = received(chunk(pairs("B", "M1"), batch_id="two"), NOW)
    assert outcomes(database, *sent, good) == [CONFLICT, CONFLICT, APPLIED]


def test_a_stream_of_chunks_of_one_batch_is_applied_whole(database: Database) -> None:
    sent = [
        received(chunk(pairs("A", "M1"), number=n, last=n == 3), NOW + n * SECOND) for n in range(4)
    ]
    assert outcomes(database, *sent[:2]) == [APPLIED, APPLIED]
    assert outcomes(database, *reversed(sent)) == [APPLIED, APPLIED, REPEATED, REPEATED]
    assert books(database) == {"received": 4, "enrolled": 1, "already_enrolled": 3}
    assert status(database).chunks_applied == 4


@pytest.mark.parametrize("drop_first", [True, False])
def test_of_an_enrollment_and_a_drop_the_later_moment_wins_in_any_order(
    database: Database, *, drop_first: bool
) -> None:
    enrolls = received(chunk(pairs("A", "M1"), batch_id="enrolls"), NOW - SECOND)
    drops = received(chunk(drop("A", "M1"), batch_id="drops"), NOW)
    sent = [drops, enrolls] if drop_first else [enrolls, drops]
    assert outcomes(database, *sent) == [APPLIED, APPLIED]
    assert enrolled(database) == {}
    later = received(chunk(pairs("A", "M1"), batch_id="later"), NOW + SECOND)
    before = received(chunk(drop("A", "M1"), batch_id="before"), NOW + SECOND / 2)
    sent = [before, later] if drop_first else [later, before]
    apply_together(database, sent, clock=lambda: NOW + 2 * SECOND)
    assert enrolled(database) == {(1, 1): NOW + SECOND}


def test_chunks_without_a_moment_count_in_their_order(database: Database) -> None:
    sent = [
        received(chunk(pairs("A", "M1"), pairs("A", "M2"), batch_id="1", ordered=True)),
        received(chunk(drop("A", "M2"), batch_id="2")),
        received(chunk(pairs("A", "M2"), batch_id="3")),
        received(chunk(drop("A", "M1"), batch_id="4")),
    ]
    assert outcomes(database, *sent) == [APPLIED] * 4
    assert list(enrolled(database)) == [(1, 2)]


def test_a_failure_applies_no_chunk(database: Database) -> None:
    good = received(chunk(pairs("A", "M1"), batch_id="one"), NOW)
    unbounded = received(chunk(pairs("B", "M1"), batch_id="two"), NOW)
    bad = unbounded._replace(fingerprint=2**70)
    with pytest.raises(Exception, match=r"(?s).*"):
        together(database, good, bad)
    assert enrolled(database) == {}
    assert status(database, "one").state == "unknown"
    assert outcomes(database, good, unbounded) == [APPLIED, APPLIED]


# --- Together and alone -----------------------------------------------------------------------

STUDENTS, COURSES = ["A", "B", "Z"], ["M1", "M2", "X"]
requests = st.one_of(
    st.builds(pairs, st.sampled_from(STUDENTS), st.sampled_from(COURSES)),
    st.builds(drop, st.sampled_from(STUDENTS), st.sampled_from(COURSES)),
    st.just("what?"),
)
chunks = st.builds(
    lambda records, batch, number, last, second: received(
        chunk(*records, batch_id=f"b{batch}", number=number, last=last),
        NOW + second * SECOND,
    ),
    st.lists(requests, max_size=3),
    st.integers(0, 3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(-3, 0),
)


def what_is_stored(database: Database) -> list[Any]:
    """Return all that counts, without the times at which it was stored."""
    statements = (
        "SELECT id, kind, moment FROM batches ORDER BY id",
        """SELECT batch_id, number, fingerprint, last, requests, rows, enrolled, already_enrolled,
            dropped, not_enrolled, superseded, rejected, requests_rejected
            FROM batch_chunks ORDER BY batch_id, number""",
        "SELECT batch_id, line, code, message FROM batch_refusals ORDER BY batch_id, line, id",
        "SELECT student_id, course_id, enrolled_at FROM student_courses ORDER BY 1, 2",
        "SELECT request_id, status, batch_id, moment FROM enrollment_results ORDER BY request_id",
    )
    with database.reading() as connection:
        return [list(map(tuple, connection.execute(text(each)))) for each in statements]


def forget(database: Database) -> None:
    tables = (BatchChunk, BatchRefusal, Batch, StudentCourse, PastEnrollment, EnrollmentResult)
    with database.writing() as connection:
        for table in tables:
            connection.execute(delete(table))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(chunks, min_size=1, max_size=6))
def test_enrollments_of_one_moment_store_the_same_together_and_one_by_one(
    database: Database, sent: Sequence[ReceivedChunk]
) -> None:
    """Counts and results depend on the order only if something is dropped."""
    at_once = [each._replace(origin=BatchOrigin(moment=NOW)) for each in sent]
    no_drops = [each for each in at_once if "drop" not in each.chunk.model_dump_json()]
    forget(database)
    alone = [
        apply.apply_chunk(
            database,
            Kind.ENROLLMENTS,
            each.chunk.model_dump_json(exclude_none=True),
            origin=each.origin,
            clock=lambda: NOW,
        )
        for each in no_drops
    ]
    stored = what_is_stored(database)
    forget(database)
    assert together(database, *no_drops) == alone
    assert what_is_stored(database) == stored


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(chunks, min_size=1, max_size=6))
def test_the_same_pairs_are_enrolled_together_and_one_by_one(
    database: Database, sent: Sequence[ReceivedChunk]
) -> None:
    forget(database)
    for each in sent:
        together(database, each)
    pairs_alone, batches = set(enrolled(database)), what_is_stored(database)[0]
    forget(database)
    together(database, *sent)
    assert set(enrolled(database)) == pairs_alone
    assert what_is_stored(database)[0] == batches
