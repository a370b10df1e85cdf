"""Which batches can be undone, what becomes of running ones, and what is left. Both databases."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import select, update

from producer.contract.batches import BatchState
from producer.contract.headers import BatchOrigin
from producer.schemas import Action, Kind
from support import chunks
from support.databases import store_roster
from support.undoing import (
    COURSES,
    NOON,
    STUDENTS,
    apply,
    at,
    by_hand,
    clock,
    columns,
    pairs,
    request,
    undone,
)
from worker.batches.apply import apply_chunk, apply_to
from worker.batches.together import ReceivedChunk, apply_together
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.dead_letters.repository import find_dead_letters
from worker.history.lookups import student_history
from worker.models import (
    Batch,
    BatchChunk,
    LetterForm,
    LetterReason,
    PastEnrollment,
    RetentionLimit,
)
from worker.recovery.retry import CannotRetry, retry_letter
from worker.undo import run
from worker.undo.run import rehearse, undo
from worker.undo.values import CannotUndo


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)


def books(database: Database, batch_id: str) -> dict[str, int]:
    return chunks.books(database, batch_id)


def test_the_history_shows_an_undo_as_a_batch_with_a_reason(database: Database) -> None:
    apply(database, request("A", enroll=["M1"]))
    undone(database)
    entry, opened = student_history(database, "A").entries
    assert (entry.change, entry.reason, entry.batch_id) == ("dropped", "undone", "undo:b")
    assert (entry.moment - opened.moment).total_seconds() == 1e-06
    status = chunks.status(database, "undo:b")
    assert (status.state, status.chunks, status.requests) == (BatchState.DONE, 1, 1)
    assert books(database, "undo:b") == {"received": 1, "dropped": 1}


def test_a_thousand_clean_requests_are_undone_with_the_reason(database: Database) -> None:
    """On PostgreSQL, such drops are written with COPY and one statement."""
    names = [f"S{n}" for n in range(300)]
    store_roster(database, names, [])
    asked = [request(name, enroll=COURSES) for name in names]
    apply(database, requests=columns(asked, Action.ENROLL))
    report = undone(database)
    assert report.counts["dropped"] == 900
    with database.reading() as connection:
        rows = connection.execute(select(PastEnrollment.reason).distinct()).all()
    assert rows == [("undone",)]
    assert {e.reason for e in student_history(database, "S7").entries} == {None, "undone"}


def test_pairs_that_later_requests_decide_are_left_and_listed(database: Database) -> None:
    by_hand(database, "before", -5, "B", enroll=["M2", "M3"])
    apply(
        database,
        request("A", enroll=["M1", "M2", "M3"]),
        request("B", drop=["M2", "M3"]),
    )
    by_hand(database, "confirmed", 5, "A", enroll=["M1"])
    by_hand(database, "dropped", 5, "A", drop=["M2"])
    by_hand(database, "dropped again", 5, "B", drop=["M2"])
    report = undone(database)
    assert pairs(database) == {("A", "M1"), ("B", "M3")}
    left = [(each.student_sis_id, each.course_sis_id, each.request_id) for each in report.left]
    assert left == [("A", "M1", "confirmed"), ("B", "M2", "dropped again")]
    assert {each.moment for each in report.left} == {at(5)}
    assert report.counts["not_enrolled"] == 1


def test_a_pair_that_another_batch_opened_is_listed_with_its_line(database: Database) -> None:
    apply(database, request("A", enroll=["M1"]))
    by_hand(database, "gone", 1, "A", drop=["M1"])
    apply(database, request("A", enroll=["M1"]), batch_id="c", moment=at(2))
    (left,) = undone(database).left
    assert left.request_id == "c:0:0"
    assert pairs(database) == {("A", "M1")}


@pytest.mark.parametrize("form", ["fresh", "stored", "mixed"])
def test_a_pair_that_a_batch_of_the_same_moment_names_as_well_is_left(
    database: Database, form: str
) -> None:
    others = {
        "fresh": [request("B", enroll=["M1", "M2"])],
        "stored": [request("A", enroll=["M1"]), request("A", enroll=["M2", "M3"])],
        "mixed": [request("B", drop=["M1"]), request("A", enroll=["M2", "M3"])],
    }
    by_hand(database, "before", -5, "A", enroll=["M3"])
    apply(database, request("A", enroll=["M1"]), *others[form])
    apply(database, request("A", enroll=["M1"]), batch_id="c")
    (left,) = undone(database).left
    assert (left.course_sis_id, left.request_id, left.moment) == ("M1", "c:0:0", NOON)
    assert pairs(database) == {("A", "M1"), ("A", "M3")}
    assert undone(database, "c").left == []
    assert pairs(database) == {("A", "M3")}  # Neither of the two counts any more.


def test_pairs_that_batches_of_one_moment_opened_are_listed_with_the_right_batch(
    database: Database,
) -> None:
    apply(database, request("A", enroll=["M1"]), request("A", enroll=["M2"]))
    by_hand(database, "gone", 1, "A", drop=["M1", "M2"])
    for batch_id, course in (("d", "M1"), ("c", "M2")):
        apply(database, request("A", enroll=[course]), batch_id=batch_id, moment=at(2))
    left = {each.course_sis_id: each.request_id for each in undone(database).left}
    assert left == {"M1": "d:0:0", "M2": "c:0:0"}


def test_an_operation_list_is_undone_by_the_state_before_it(database: Database) -> None:
    by_hand(database, "before", -5, "A", enroll=["M2"])
    operations = [
        request("A", enroll=["M1"]),
        request("A", drop=["M1"]),
        request("A", enroll=["M1"]),
        request("A", drop=["M2"]),
        request("A", enroll=["M3"]),
        request("A", drop=["M3"]),
    ]
    for number in (2, 0, 1):
        last, part = number == 2, operations[2 * number : 2 * number + 2]
        apply(database, *part, number=number, last=last, ordered=True)
    assert pairs(database) == {("A", "M1")}
    undone(database)
    assert pairs(database) == {("A", "M2")}


def test_a_swap_and_requests_with_own_ids_are_undone(database: Database) -> None:
    by_hand(database, "before", -5, "A", enroll=["M1"])
    apply(database, request("A", ["M2"], ["M1"], atomic=True, request_id="swap"))
    assert pairs(database) == {("A", "M2")}
    undone(database)
    assert pairs(database) == {("A", "M1")}


def test_a_running_batch_is_stopped_and_the_rest_of_it_refused(database: Database) -> None:
    apply(database, request("A", enroll=["M1"]), last=False)
    undone(database)
    late = partial(request, enroll=["M2", "M3"])
    before = {"requests": 1, "rows": 1}
    apply(database, late("A"), late("B", request_id="own"), number=1, last=False, before=before)
    chunk = chunks.chunk(late("B"), number=2, before={"requests": 3, "rows": 5})
    received = ReceivedChunk(chunk, 1, BatchOrigin(moment=NOON))
    apply_together(database, [received], clock=clock)
    assert pairs(database) == set()
    status = chunks.status(database)
    assert status.state is BatchState.DONE
    assert books(database, "b") == {"received": 7, "enrolled": 1, "rejected": 6}
    (group,) = status.refusals
    assert group.code == "undone"
    assert "submit it in another batch" in group.example


def test_an_undo_waits_for_a_chunk_that_is_being_applied(database: Database) -> None:
    """On SQLite, it waits for the only writer."""
    apply(database, request("A", enroll=["M1"]), last=False)
    chunk = chunks.chunk(request("B", enroll=["M2"]), number=1, before={"requests": 1, "rows": 1})
    with ThreadPoolExecutor(1) as threads:
        with database.writing() as connection:
            apply_to(connection, Kind.ENROLLMENTS, chunk, 7, {}, clock=clock)
            report = threads.submit(undone, database)
            with pytest.raises(TimeoutError):
                report.result(timeout=1)
        assert report.result(timeout=60).counts["dropped"] == 2
    assert pairs(database) == set()


def test_a_dead_letter_of_a_batch_that_was_undone_is_not_retried(database: Database) -> None:
    apply(database, request("A", enroll=["M1"]))
    undone(database)
    letter = dead_letter(
        LetterForm.RECORD,
        b'{"student_id": "A", "course_ids": ["M2"]}',
        LetterReason.NOT_PROCESSED,
        "it failed",
        task="enrollment.enroll_batch",
        batch_id="b",
        request_id="b:0:7",
    )
    keep(database, letter)
    with database.reading() as connection:
        (stored,) = find_dead_letters(connection)
    with pytest.raises(CannotRetry, match="batch b was undone"):
        retry_letter(database, stored.id, clock=clock)
    assert pairs(database) == set()


def test_what_cannot_be_undone_is_refused_and_nothing_is_written(database: Database) -> None:
    apply(database, request("A", enroll=["M1"]))
    students = {"batch_id": "r", "number": 0, "last": True, "records": [{"sis_id": "Z"}]}
    apply_chunk(database, Kind.STUDENTS, students)
    with pytest.raises(CannotUndo, match="nowhere is unknown: none of its chunks was applied"):
        undone(database, "nowhere")
    with pytest.raises(CannotUndo, match=r"r is a roster of students\. Rosters are not undone"):
        undone(database, "r")
    with database.writing() as connection:
        connection.execute(update(RetentionLimit).values(moment=at(1)))
    for attempt in (undone, partial(rehearse, clock=clock)):
        with pytest.raises(CannotUndo, match=r"what happened before .* was pruned"):
            attempt(database, "b")
    assert pairs(database) == {("A", "M1")}
    with database.reading() as connection:
        assert connection.scalars(select(Batch.stopped_at)).all() == [None, None]


def test_a_batch_is_undone_once_and_its_undo_can_be_undone(database: Database) -> None:
    long_id = "b" * 128
    apply(database, request("A", enroll=["M1"]), batch_id=long_id)
    undone(database, long_id)
    with pytest.raises(CannotUndo, match=rf"undone already, by undo:{long_id}\. To undo that"):
        undone(database, long_id)
    undone(database, f"undo:{long_id}")
    assert pairs(database) == {("A", "M1")}
    undo_id = f"undo:undo:{long_id}"
    while len(undo_id) <= 155:
        undone(database, undo_id)
        undo_id = f"undo:{undo_id}"
    with pytest.raises(CannotUndo, match="more than 160 characters"):
        undone(database, undo_id)


def test_a_batch_that_changed_nothing_is_undone_as_well(database: Database) -> None:
    by_hand(database, "before", -5, "A", enroll=["M1"])
    apply(database, request("A", enroll=["M1"]), request("Unknown", enroll=["M1"]))
    undone(database)
    assert pairs(database) == {("A", "M1")}
    assert chunks.status(database, "undo:b").state is BatchState.DONE


def test_a_rehearsal_shows_the_same_and_changes_nothing(database: Database) -> None:
    apply(database, request("A", enroll=["M1", "M2"]), last=False)
    by_hand(database, "confirmed", 5, "A", enroll=["M1"])
    for _ in range(2):
        shown = rehearse(database, "b", clock=clock)
        assert pairs(database) == {("A", "M1"), ("A", "M2")}
    with database.reading() as connection:
        assert connection.scalars(select(Batch.stopped_at)).all() == [None]
    assert undone(database) == shown


def test_an_interrupted_undo_continues_and_counts_each_chunk_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        part = request("A" if number % 2 else "B", enroll=[COURSES[number % 3]])
        before = {"requests": number, "rows": number}
        apply(database, part, number=number, last=number == 4, before=before)
    calls = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        undo(database, "b", on_chunk=interrupt, clock=clock)
    assert chunks.status(database, "undo:b").chunks_applied == 2
    assert len(pairs(database)) == 3
    report = undone(database)
    assert pairs(database) == set()
    assert report.counts["dropped"] == 5
    assert books(database, "undo:b") == {"received": 5, "dropped": 5}
    assert chunks.status(database, "undo:b").chunks_applied == 5


def test_of_two_commands_at_once_one_goes_on_and_the_other_ends(database: Database) -> None:
    for number in range(3):
        before = {"requests": number, "rows": number}
        part = request("A", enroll=[COURSES[number]])
        apply(database, part, number=number, last=number == 2, before=before)
    others = []

    def begin_another() -> None:
        others.append(1)
        if len(others) == 3:  # Between the first chunk and the second one.
            run.undo(database, "b", clock=clock)

    with pytest.raises(CannotUndo, match="Another command is already undoing the batch b"):
        undo(database, "b", on_chunk=begin_another, clock=clock)
    assert pairs(database) == set()
    assert books(database, "undo:b") == {"received": 3, "dropped": 3}


def test_an_undo_that_was_interrupted_says_how_to_continue_it(database: Database) -> None:
    for number in range(2):
        before = {"requests": number, "rows": number}
        part = request("A", enroll=[COURSES[number]])
        apply(database, part, number=number, last=number == 1, before=before)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        undo(database, "b", on_applied=interrupt, clock=clock)
    status = chunks.status(database, "b")
    assert status.undone_by == "undo:b"
    assert "`enroll undo b` again" in str(status.advice)
    with database.writing() as connection:
        connection.execute(update(BatchChunk).values(applied_at=NOON))
    stalled = chunks.status(database, "undo:b")
    assert (stalled.state, stalled.undoes) == (BatchState.STALLED, "b")
    assert "`enroll undo b` again" in str(stalled.advice)
    undone(database, "undo:b")
    assert chunks.status(database, "b").undone_by is None
    assert "There is nothing to do" in str(chunks.status(database, "undo:b").advice)
    with pytest.raises(CannotUndo, match="itself undone before it was complete"):
        undone(database, "b")
    assert pairs(database) == {("A", "M1"), ("A", "M2")}
