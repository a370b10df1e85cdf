"""The undo of an old night leaves alone what a later night of its data set lacks.

Both databases.
"""

import pytest

from producer.schemas import Action
from support.snapshots import Feeds, at, clock, grid, make_feeds
from worker.database.engine import Database
from worker.undo.reports import preview
from worker.undo.run import UndoReport, rehearse, report_of, undo

FIRST, SECOND, THIRD = "night-1", "night-2", "night-3"
BOTH, ONLY_ONE = grid((1, 2)), grid((1,))
GONE = ("S2", "C1")


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, 3, 2)


def undone(feeds: Feeds, batch_id: str) -> UndoReport:
    """Undo a batch, after a rehearsal has shown the same."""
    shown = rehearse(feeds.database, batch_id, clock=clock)
    report = undo(feeds.database, batch_id, clock=clock)
    assert report == shown
    return report


def three_nights(feeds: Feeds) -> None:
    """The second file and the third one lack a student of the first."""
    feeds.snapshot("sis", BOTH, at(1), batch_id=FIRST)
    feeds.snapshot("sis", ONLY_ONE, at(2), batch_id=SECOND)
    feeds.snapshot("sis", ONLY_ONE, at(3), batch_id=THIRD)


def test_what_a_later_snapshot_lacks_is_left_counted_and_listed(feeds: Feeds) -> None:
    three_nights(feeds)
    assert preview(feeds.database, SECOND, clock=clock).left_to_snapshots == 1
    report = undone(feeds, SECOND)
    assert feeds.pairs() == set(ONLY_ONE)
    assert (report.counts["superseded"], report.left_to_snapshots) == (1, 1)
    (left,) = report.left
    assert (left.student_sis_id, left.course_sis_id) == GONE
    assert (left.action, left.moment, left.request_id) == (Action.ENROLL, at(3), THIRD)


def test_what_a_later_snapshot_names_is_enrolled_by_that(feeds: Feeds) -> None:
    feeds.snapshot("sis", BOTH, at(1), batch_id=FIRST)
    feeds.snapshot("sis", ONLY_ONE, at(2), batch_id=SECOND)
    feeds.snapshot("sis", BOTH, at(3), batch_id=THIRD)
    report = undone(feeds, SECOND)
    assert feeds.pairs() == set(BOTH)
    assert (report.counts["already_enrolled"], report.left_to_snapshots) == (1, 0)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_the_snapshots_of_many_years_are_no_parameters_of_a_statement(feeds: Feeds) -> None:
    """A statement can have 65,535 parameters."""
    three_nights(feeds)
    undo(feeds.database, SECOND, clock=clock)
    with feeds.database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO plans (id, request, moment, state, staged_at)"
            " SELECT 'p' || n, plan.request, plan.moment + n * interval '1 hour', 'done', now()"
            " FROM plans plan, generate_series(1, 66000) n WHERE plan.id = 'night-1'"
        )
    assert report_of(feeds.database, SECOND).left_to_snapshots == 1


def test_a_later_snapshot_that_was_undone_decides_nothing(feeds: Feeds) -> None:
    three_nights(feeds)
    undone(feeds, THIRD)
    report = undone(feeds, SECOND)
    assert feeds.owners() == dict.fromkeys(BOTH, "sis")
    assert report.left_to_snapshots == 0


def test_a_later_drop_by_hand_is_no_snapshot(feeds: Feeds) -> None:
    feeds.snapshot("sis", BOTH, at(1), batch_id=FIRST)
    feeds.snapshot("sis", ONLY_ONE, at(2), batch_id=SECOND)
    feeds.by_hand(at(3), drop=[GONE])
    report = undone(feeds, SECOND)
    assert feeds.pairs() == set(ONLY_ONE)
    assert (report.counts["superseded"], report.left_to_snapshots) == (1, 0)


def test_what_another_data_set_names_is_enrolled_again_for_that(feeds: Feeds) -> None:
    """The later snapshot would have passed it on."""
    feeds.snapshot("sis", BOTH, at(1), batch_id=FIRST)
    feeds.batch("lms", [GONE], at(2))
    feeds.batch(None, [GONE], at(3), batch_id="drops", drops=True)
    feeds.snapshot("sis", ONLY_ONE, at(4), batch_id=THIRD)
    report = undone(feeds, "drops")
    assert feeds.owners() == {("S1", "C1"): "sis", GONE: "lms"}
    assert feeds.notes() == {}
    assert report.left_to_snapshots == 0


def test_what_was_passed_on_stays_where_a_later_snapshot_leaves_it(feeds: Feeds) -> None:
    feeds.snapshot("sis", BOTH, at(1), batch_id=FIRST)
    feeds.batch("lms", [GONE], at(2))
    feeds.snapshot("sis", ONLY_ONE, at(3), batch_id=SECOND)
    feeds.snapshot("sis", ONLY_ONE, at(4), batch_id=THIRD)
    assert feeds.owners()[GONE] == "lms"
    undone(feeds, SECOND)
    assert feeds.owners()[GONE] == "lms"


def test_enrollments_without_a_data_set_are_restored_whatever_was_submitted_since(
    feeds: Feeds,
) -> None:
    feeds.batch(None, [GONE], at(1))
    feeds.batch(None, [GONE], at(2), batch_id="drops", drops=True)
    feeds.snapshot("sis", ONLY_ONE, at(3))
    undone(feeds, "drops")
    assert feeds.owners()[GONE] is None
