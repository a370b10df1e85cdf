"""Snapshots change exactly what the algebra of sets says. On both databases."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.contract.history import Change
from producer.contract.plans import AbsentRows
from support.snapshots import Feeds, at, chunk_of, clear, grid, make_feeds
from worker.database.engine import Database
from worker.history.lookups import student_history
from worker.models import EnrollmentResult, PastEnrollment
from worker.plan_models import AlsoEnrolledBy
from worker.snapshots.sweep import sweep_page


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, students=9, courses=3)


def test_a_snapshot_drops_what_it_does_not_name(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1, 2, 3]), at(0))
    feeds.by_hand(at(1), enroll=grid([4]))
    feeds.batch("lms", grid([5]), at(1))
    absent = feeds.snapshot("sis", grid([2, 6]), at(2))
    assert feeds.owners() == {
        ("S2", "C1"): "sis",
        ("S4", "C1"): None,
        ("S5", "C1"): "lms",
        ("S6", "C1"): "sis",
    }
    assert absent == AbsentRows(absent=2, dropped=2)


def test_the_same_snapshot_twice_opens_and_closes_nothing(feeds: Feeds) -> None:
    feeds.snapshot("sis", grid([1, 2], [1, 2]), at(0))
    planned = feeds.plan("sis", grid([1, 2], [1, 2]), at(1))
    feeds.begin(planned)
    (applied,) = feeds.apply(planned)
    assert applied.counts["enrolled"] == 0
    assert applied.counts["already_enrolled"] == 4
    assert feeds.sweep(planned) == AbsentRows()
    assert feeds.count(PastEnrollment) == 0
    assert feeds.count(AlsoEnrolledBy) == 0


def test_history_shows_the_drop_with_its_reason_and_batch(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1], [1, 2, 3]), at(0))
    feeds.snapshot("sis", grid([1], [1]), at(1), batch_id="night")
    history = student_history(feeds.database, "S1")
    dropped = [entry for entry in history.entries if entry.change is Change.DROPPED]
    assert {e.course.sis_id for e in dropped if e.course} == {"C2", "C3"}
    assert {e.moment for e in dropped} == {at(1)}
    assert {(e.batch_id, e.reason) for e in dropped} == {("night", "not in the snapshot of sis")}
    assert all(entry.request_id for entry in dropped)


def test_what_was_named_later_or_by_hand_stays(feeds: Feeds) -> None:
    feeds.batch("sis", grid(range(1, 6)), at(0))
    planned = feeds.plan("sis", grid([1]), at(10))
    assert planned.absence.absent == AbsentRows(absent=4, dropped=4)
    feeds.by_hand(at(20), enroll=grid([2]))  # Confirms it later.
    feeds.by_hand(at(10), enroll=grid([3]))  # At the same moment: enrolled wins.
    feeds.by_hand(at(5), enroll=grid([4]))  # Earlier: the snapshot wins.
    feeds.by_hand(at(20), drop=grid([5]))
    assert feeds.begin(planned)
    feeds.apply(planned)
    absent = feeds.sweep(planned)
    assert feeds.pairs() == set(grid([1, 2, 3]))
    assert absent == AbsentRows(absent=4, dropped=1, kept_newer=2, not_enrolled=1)


def test_confirmations_are_known_when_the_plan_is_made(feeds: Feeds) -> None:
    feeds.batch("sis", grid(range(1, 6)), at(0))
    feeds.by_hand(at(20), enroll=grid([2]))
    feeds.batch("lms", grid([3]), at(20))
    planned = feeds.plan("sis", grid([1]), at(10))
    assert planned.absence.absent == AbsentRows(absent=4, dropped=2, kept_newer=2)
    feeds.begin(planned)
    feeds.apply(planned)
    assert feeds.sweep(planned) == AbsentRows(absent=4, dropped=2, kept_newer=2)
    assert feeds.pairs() == set(grid([1, 2, 3]))


def test_an_older_request_of_the_data_set_opens_nothing_after_a_snapshot(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1]), at(0))
    feeds.snapshot("sis", grid([1, 2]), at(10))
    late = feeds.batch("sis", grid([2, 3, 4]), at(5))
    assert (late.counts["superseded"], late.counts["already_enrolled"]) == (2, 1)
    assert feeds.pairs() == set(grid([1, 2]))
    (entry,) = student_history(feeds.database, "S3").entries
    assert (entry.change, entry.superseded_by) == (Change.SUPERSEDED, at(10))
    feeds.batch("lms", grid([3]), at(5))  # Another data set, and a request by hand, are free to.
    feeds.by_hand(at(5), enroll=grid([4]))
    assert feeds.pairs() == set(grid([1, 2, 3, 4]))


def test_an_older_snapshot_does_not_begin_after_a_newer_one(feeds: Feeds) -> None:
    older = feeds.plan("sis", grid([1]), at(1))
    feeds.snapshot("sis", grid([2]), at(2))
    assert not feeds.begin(older)
    assert feeds.swept_at("sis") == at(2)


def test_a_page_that_was_done_is_not_done_again(feeds: Feeds) -> None:
    feeds.batch("sis", grid(range(1, 9)), at(0))
    planned = feeds.plan("sis", grid([1]), at(10))
    feeds.begin(planned)
    feeds.apply(planned)
    with feeds.database.engine.connect() as connection, connection.begin() as transaction:
        assert sweep_page(connection, planned.sweep, page=3) == 3
        transaction.rollback()  # The worker was killed.
    assert sweep_page(feeds.database, planned.sweep, page=3) == 3
    before = feeds.count(EnrollmentResult)
    feeds.by_hand(at(20), enroll=grid([2]))
    assert feeds.sweep(planned).dropped == 7
    assert feeds.sweep(planned).dropped == 7
    assert feeds.count(EnrollmentResult) == before + 1 + 4
    assert feeds.pairs() == set(grid([1, 2]))


def test_a_refused_line_keeps_the_enrollment_that_it_names(feeds: Feeds) -> None:
    feeds.batch("sis", grid([1, 2, 3], [1, 2]), at(0))
    refused = [RefusedLine(line=7, message="bad date", cells=("S2", "x", "C2"))]
    records = [
        {"student_id": "S3", "course_ids": ["C1"], "atomic": "perhaps"},
        {"student_id": "S3", "course_ids": ["C2", "unknown"], "atomic": True},
    ]
    chunk = chunk_of("night", (), "sis", refused=refused, records=records)
    planned = feeds.plan("sis", (), at(1), chunks=[chunk], batch_id="night")
    assert planned.absence.absent == AbsentRows(absent=6, dropped=3, kept_refused=3)
    feeds.begin(planned)
    feeds.apply(planned)
    assert feeds.sweep(planned) == AbsentRows(absent=6, dropped=3, kept_refused=3)
    assert feeds.pairs() == {("S2", "C2"), ("S3", "C1"), ("S3", "C2")}


PAIRS = grid([1, 2, 3], [1, 2])
_SOME = st.lists(st.sampled_from(PAIRS), max_size=6, unique=True)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("snapshot"), st.sampled_from(["sis", "lms", "lab"]), _SOME),
        st.tuples(st.just("batch"), st.sampled_from(["sis", "lms", None]), _SOME),
        st.tuples(st.just("enroll"), st.none(), _SOME),
        st.tuples(st.just("drop"), st.none(), _SOME),
    ),
    max_size=7,
)


class Model:
    """Who owns which enrollment, in plain Python, if all happens in the order of the moments."""

    def __init__(self) -> None:
        self.owners: dict[tuple[str, str], str | None] = {}
        self.notes: dict[tuple[tuple[str, str], str], int] = {}

    def enroll(self, data_set: str | None, pair: tuple[str, str], moment: int) -> None:
        owner = self.owners.setdefault(pair, data_set)
        if None not in (owner, data_set) and owner != data_set:
            self.notes[pair, str(data_set)] = moment

    def drop(self, pair: tuple[str, str]) -> None:
        self.owners.pop(pair, None)
        self.notes = {key: moment for key, moment in self.notes.items() if key[0] != pair}

    def snapshot(self, data_set: str, pairs: list[tuple[str, str]], moment: int) -> None:
        for pair in pairs:
            self.enroll(data_set, pair, moment)
        for pair in [p for p, o in self.owners.items() if o == data_set and p not in pairs]:
            heirs = [(at, name) for (noted, name), at in self.notes.items() if noted == pair]
            if heirs:
                _, heir = max(heirs)
                self.owners[pair] = heir
                del self.notes[pair, heir]
            else:
                self.drop(pair)
        self.notes = {
            key: noted for key, noted in self.notes.items() if key[1] != data_set or noted >= moment
        }


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=_STEPS)
def test_random_snapshots_agree_with_the_algebra_of_sets(feeds: Feeds, steps: list[Any]) -> None:
    clear(feeds)
    model = Model()
    for minute, (what, data_set, pairs) in enumerate(steps, 1):
        if what == "snapshot":
            owned = {p for p, o in model.owners.items() if o == data_set}
            absent = feeds.snapshot(data_set, pairs, at(minute))
            model.snapshot(data_set, pairs, minute)
            assert absent.absent == len(owned - set(pairs))
            assert absent.absent == absent.dropped + absent.passed_on
        elif what == "drop":
            feeds.by_hand(at(minute), drop=pairs)
            for pair in pairs:
                model.drop(pair)
        else:
            if what == "batch":
                feeds.batch(data_set, pairs, at(minute))
            else:
                feeds.by_hand(at(minute), enroll=pairs)
            for pair in pairs:
                model.enroll(data_set, pair, minute)
        assert feeds.owners() == model.owners
        assert feeds.notes() == {key: at(moment) for key, moment in model.notes.items()}
