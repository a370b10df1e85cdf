"""Feeds that overlap, adopt enrollments, or are overtaken by requests. On both databases."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from producer.contract.plans import AbsentRows, PlanState
from support.snapshots import Feeds, Pair, at, chunk_of, clear, clock, deliver, grid, make_feeds
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.models import EnrollmentResult, LetterForm, LetterReason, PastEnrollment
from worker.plan_models import AlsoEnrolledBy, PlanRow
from worker.recovery.retry import retry_letter


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, students=9, courses=2)


def test_two_overlapping_feeds_do_not_flap_for_ten_nights(feeds: Feeds) -> None:
    common, of_sis, of_lms = grid([1, 2, 3]), grid([4]), grid([5])
    for night in range(10):
        sis = feeds.snapshot("sis", common + of_sis, at(1440 * night))
        lms = feeds.snapshot("lms", common + of_lms, at(1440 * night + 5))
        assert sis == lms == AbsentRows()
        assert feeds.pairs() == {*common, *of_sis, *of_lms}
        assert feeds.count(AlsoEnrolledBy) == 3
    assert feeds.count(PastEnrollment) == 0
    assert {feeds.owners()[pair] for pair in common} == {"sis"}
    # The owner no longer names one of them: it passes to the other feed.
    assert feeds.snapshot("sis", grid([2, 3, 4]), at(20_000)) == AbsentRows(absent=1, passed_on=1)
    assert feeds.owners()[common[0]] == "lms"
    # The other feed names it no longer, either.
    assert feeds.snapshot("lms", grid([2, 3, 5]), at(20_005)) == AbsentRows(absent=1, dropped=1)
    assert feeds.pairs() == set(grid([2, 3, 4, 5]))


def test_a_note_that_the_last_snapshot_of_its_feed_outdated_is_not_inherited(feeds: Feeds) -> None:
    feeds.snapshot("sis", grid([1, 2]), at(0))
    feeds.snapshot("lms", grid([1, 2, 3]), at(1))
    feeds.snapshot("lms", grid([2, 3]), at(2))
    assert set(feeds.notes()) == {(("S2", "C1"), "lms")}
    absent = feeds.snapshot("sis", grid([4]), at(3))
    assert absent == AbsentRows(absent=2, dropped=1, passed_on=1)
    assert feeds.owners() == {("S2", "C1"): "lms", ("S3", "C1"): "lms", ("S4", "C1"): "sis"}


def test_a_late_batch_writes_no_note_that_a_snapshot_has_outdated(feeds: Feeds) -> None:
    feeds.snapshot("sis", grid([1]), at(0))
    feeds.snapshot("lms", grid([3]), at(10))
    feeds.batch("lms", grid([1]), at(5))
    assert feeds.notes() == {}
    feeds.batch("lms", grid([1]), at(11))
    assert feeds.notes() == {(("S1", "C1"), "lms"): at(11)}


def test_notes_count_while_the_next_snapshot_of_their_feed_is_applied(feeds: Feeds) -> None:
    feeds.snapshot("sis", grid([1, 2]), at(0))
    feeds.snapshot("lms", grid([1, 3]), at(1))
    pairs = grid([1, 3, 4])
    batch_id = "night"
    chunks = [
        chunk_of(batch_id, pairs[1:], "lms", last=False),
        chunk_of(batch_id, pairs[:1], "lms", number=1),
    ]
    running = feeds.plan("lms", (), at(10), chunks=chunks, batch_id=batch_id)
    feeds.begin(running)
    with feeds.database.writing() as connection:
        applying = {"state": PlanState.APPLYING.value}
        connection.execute(update(PlanRow).where(PlanRow.id == batch_id).values(**applying))
    deliver(feeds.database, chunks[0], at(10))
    # The chunk that names the pair again was not applied yet.
    assert feeds.snapshot("sis", grid([2]), at(11)) == AbsentRows(absent=1, passed_on=1)
    deliver(feeds.database, chunks[1], at(10))
    assert feeds.sweep(running) == AbsentRows()
    assert feeds.owners()[pairs[0]] == "lms"
    assert feeds.count(PastEnrollment) == 0


def test_an_explicit_drop_acts_on_any_owner_and_removes_older_notes(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1, 2, 3]), at(0))
    feeds.batch("lms", grid([1, 2, 3]), at(5))
    feeds.by_hand(at(6), drop=grid([1]))
    feeds.by_hand(at(4), drop=grid([2]))  # Older than the note: superseded.
    drops = {"student_ids": ["S3"], "drop_course_ids": [["C1"]]}
    chunk = chunk_of("drops").model_copy(update={"requests": None})
    text = chunk.model_dump() | {"requests": drops}
    deliver(feeds.database, type(chunk).model_validate(text), at(7))
    assert feeds.owners() == {("S2", "C1"): "sis"}
    assert feeds.notes() == {(("S2", "C1"), "lms"): at(5)}


def test_rows_without_an_owner_are_adopted_only_if_that_is_wanted_and_they_are_named(
    feeds: Feeds,
) -> None:
    feeds.by_hand(at(0), enroll=grid([1, 2, 3]))
    feeds.batch(None, grid([4]), at(0))
    feeds.snapshot("sis", grid([1, 4, 5]), at(1))
    assert set(feeds.owners().values()) == {None, "sis"}
    assert feeds.owners()["S5", "C1"] == "sis"
    feeds.snapshot("sis", grid([1, 4, 5]), at(2), adopt=True)
    assert feeds.owners() == {
        ("S1", "C1"): "sis",
        ("S2", "C1"): None,
        ("S3", "C1"): None,
        ("S4", "C1"): "sis",
        ("S5", "C1"): "sis",
    }
    feeds.batch("lms", grid([1]), at(3))
    absent = feeds.snapshot("lms", grid([1, 2]), at(4), adopt=True)  # Not what sis owns.
    assert absent == AbsentRows()
    assert feeds.owners()["S1", "C1"] == "sis"
    assert feeds.owners()["S2", "C1"] == "lms"
    assert feeds.notes() == {(("S1", "C1"), "lms"): at(4)}
    assert feeds.snapshot("sis", grid([4]), at(5)) == AbsentRows(absent=2, dropped=1, passed_on=1)
    assert feeds.pairs() == set(grid([1, 2, 3, 4]))


def test_an_enrollment_keeps_its_owner_when_it_ends(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1, 2]), at(0))
    feeds.by_hand(at(0), enroll=grid([3]))
    feeds.by_hand(at(1), drop=grid([1, 3]))
    feeds.snapshot("sis", grid([4]), at(2))
    with feeds.database.reading() as connection:
        rows = connection.execute(PastEnrollment.__table__.select()).all()
    key = feeds.key("sis")
    assert {row.student_id: row.data_set for row in rows} == {1: key, 2: key, 3: None}


def test_last_weeks_dead_letter_brings_no_enrollment_back(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1]), at(0))
    letter = dead_letter(
        LetterForm.RECORD,
        b'{"student_id": "S2", "course_ids": ["C1"]}',
        LetterReason.NOT_PROCESSED,
        "it failed",
        task="enrollment.enroll_batch",
        batch_id="b1",
        request_id="b1:0:7",
        moment=at(0),
    )
    keep(feeds.database, letter)
    whole = dead_letter(
        LetterForm.CALL,
        _call(chunk_of("old", grid([3, 4]), "sis")).encode(),
        LetterReason.NOT_PROCESSED,
        "it failed",
        task="enrollment.enroll_batch",
        batch_id="old",
        moment=at(1),
    )
    keep(feeds.database, whole)
    feeds.snapshot("sis", grid([1, 4]), at(10))
    for letter_id in (1, 2):
        retry_letter(feeds.database, letter_id, clock=clock)
    assert feeds.pairs() == set(grid([1, 4]))


def _call(chunk: Any) -> str:
    arguments = {"task": "enrollment.enroll_batch", "task_id": "t", "kwargs": {}}
    return json.dumps({**arguments, "args": [chunk.model_dump_json()]})


PAIRS = grid([1, 2, 3], [1, 2])
_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["enroll", "drop", "sis", "lms"]),
        st.sampled_from(PAIRS),
        st.integers(0, 20),
    ),
    max_size=8,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    owned=st.lists(st.sampled_from(PAIRS), unique=True),
    before=_ACTIONS,
    named=st.lists(st.sampled_from(PAIRS), unique=True, max_size=3),
    between=_ACTIONS,
)
def test_a_sweep_never_overrules_what_counts_later(
    feeds: Feeds, owned: list[Pair], before: list[Any], named: list[Pair], between: list[Any]
) -> None:
    """The snapshot counts at minute 10; requests count before, then and after, in any order."""
    _clear(feeds)
    feeds.batch("sis", owned, at(-5))
    _act(feeds, before)
    owners = feeds.owners()
    planned = feeds.plan("sis", named, at(10))
    absent = {pair for pair, owner in owners.items() if owner == "sis"} - set(named)
    assert planned.absence.absent.absent == len(absent)
    assert planned.absence.owned_before == sum(owner == "sis" for owner in owners.values())
    assert feeds.begin(planned)
    feeds.apply(planned)
    _act(feeds, between)
    present = feeds.owners()
    swept = feeds.sweep(planned)
    counts = swept.model_dump()
    assert counts.pop("absent") == sum(counts.values()) == len(absent)
    gone = present.keys() - feeds.pairs()
    assert gone <= absent
    assert len(gone) == swept.dropped
    confirmed = {
        pair
        for what, pair, minute in [*before, *between]
        if what != "drop" and minute >= 10 and pair in present
    }
    assert not gone & confirmed
    # What only the owner's file could keep is gone: no other request was about it.
    others = {pair for _, pair, _ in [*before, *between]}
    assert absent - others <= gone


def _act(feeds: Feeds, actions: Sequence[tuple[str, Pair, int]]) -> None:
    for what, pair, minute in actions:
        if what == "enroll":
            feeds.by_hand(at(minute), enroll=[pair])
        elif what == "drop":
            feeds.by_hand(at(minute), drop=[pair])
        else:
            feeds.batch(what, [pair], at(minute))


def _clear(feeds: Feeds) -> None:
    clear(feeds)
    assert feeds.count(EnrollmentResult) == 0
