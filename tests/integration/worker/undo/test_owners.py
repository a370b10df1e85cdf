"""The owner of an enrollment is right after an undo, and after the undo of that. Both databases."""

import pytest

from producer.schemas import Action
from support.snapshots import Feeds, at, clock, grid, make_feeds
from worker.database.engine import Database
from worker.undo.run import rehearse, undo

PAIR = ("S1", "C1")


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, 3, 2)


@pytest.mark.parametrize("other_is_undone", [False, True])
@pytest.mark.parametrize("data_set", ["lms", None])
def test_what_a_list_drops_and_enrolls_again_belongs_to_each_owner_in_turn(
    feeds: Feeds, data_set: str | None, other_is_undone: bool
) -> None:
    feeds.batch("sis", [PAIR], at(1))
    feeds.batch("web", [PAIR], at(2))
    feeds.batch("sis", grid((2,)), at(3), batch_id="other")
    before = feeds.owners()[PAIR], feeds.notes()
    feeds.reopen(data_set, [PAIR], at(5), batch_id="list")
    after = feeds.owners()[PAIR], feeds.notes()
    assert (before[0], after) == ("sis", (data_set, {}))
    if other_is_undone:
        undo(feeds.database, "other", clock=clock)
    batch_id = "list"
    for expected in (before, after, before, after):
        undo(feeds.database, batch_id, clock=clock)
        assert (feeds.owners()[PAIR], feeds.notes()) == expected, batch_id
        batch_id = f"undo:{batch_id}"


def test_an_adopted_enrollment_that_a_later_snapshot_dropped_is_left_and_listed(
    feeds: Feeds,
) -> None:
    by_hand, rest = grid((1, 2)), grid((3,))
    feeds.batch("sis", rest, at(0))
    feeds.batch(None, by_hand, at(1))
    feeds.snapshot("sis", [*by_hand, *rest], at(2), adopt=True, batch_id="adopts")
    feeds.by_hand(at(3), drop=by_hand[1:])
    feeds.snapshot("sis", rest, at(4), batch_id="drops")
    shown = rehearse(feeds.database, "adopts", clock=clock)
    report = undo(feeds.database, "adopts", clock=clock)
    assert report == shown
    assert feeds.pairs() == set(rest)
    assert (report.counts["superseded"], report.left_to_snapshots) == (1, 1)
    (left,) = report.left
    assert (left.student_sis_id, left.action, left.moment) == ("S1", Action.ENROLL, at(4))
    again = undo(feeds.database, "undo:adopts", clock=clock)
    assert (feeds.pairs(), again.left) == (set(rest), [])


def test_an_adopted_enrollment_that_is_enrolled_again_is_not_listed(feeds: Feeds) -> None:
    feeds.batch(None, [PAIR], at(1))
    feeds.snapshot("sis", [PAIR], at(2), adopt=True, batch_id="adopts")
    feeds.snapshot("sis", [], at(3), batch_id="drops")
    undo(feeds.database, "drops", clock=clock)
    assert undo(feeds.database, "adopts", clock=clock).left == []
    assert feeds.owners() == {PAIR: None}


@pytest.mark.parametrize("adopts_first", [True, False])
def test_what_an_undone_snapshot_had_adopted_comes_back_without_an_owner(
    feeds: Feeds, adopts_first: bool
) -> None:
    feeds.batch(None, [PAIR], at(1))
    feeds.snapshot("sis", [PAIR], at(2), adopt=True, batch_id="adopts")
    feeds.snapshot("sis", [], at(3), batch_id="drops")
    undone = ["adopts", "drops"] if adopts_first else ["drops", "adopts"]
    for batch_id in undone:
        undo(feeds.database, batch_id, clock=clock)
    assert feeds.owners() == {PAIR: None}
    undo(feeds.database, "undo:adopts", clock=clock)
    assert feeds.owners() == {PAIR: "sis"}


@pytest.mark.parametrize("passes_first", [True, False])
def test_what_an_undone_snapshot_had_passed_on_comes_back_for_its_own_data_set(
    feeds: Feeds, passes_first: bool
) -> None:
    feeds.batch("sis", [PAIR], at(0))
    feeds.batch("lms", [PAIR], at(1))
    feeds.snapshot("sis", [], at(2), batch_id="passes")
    feeds.snapshot("lms", [], at(3), batch_id="drops")
    undone = ["passes", "drops"] if passes_first else ["drops", "passes"]
    for batch_id in undone:
        undo(feeds.database, batch_id, clock=clock)
    assert (feeds.owners(), feeds.notes()) == ({PAIR: "sis"}, {(PAIR, "lms"): at(1)})


@pytest.mark.parametrize(
    "order",
    [
        ("names", "passes", "drops", "later"),
        ("passes", "drops", "names", "later"),
        ("drops", "names", "passes", "later"),
        ("later", "drops", "passes", "names"),
    ],
)
def test_what_was_passed_on_comes_back_whatever_is_undone_last(
    feeds: Feeds, order: tuple[str, ...]
) -> None:
    """Until it is undone, too, a later snapshot of the first data set decides: it lacks the pair.

    By then, the pair has ended as one of the second data set.
    """
    feeds.batch("sis", [PAIR], at(0))
    feeds.batch("lms", [PAIR], at(1), batch_id="names")
    feeds.snapshot("sis", [], at(2), batch_id="passes")
    feeds.snapshot("lms", [], at(3), batch_id="drops")
    feeds.snapshot("sis", [], at(4), batch_id="later")
    for batch_id in order:
        undo(feeds.database, batch_id, clock=clock)
    assert feeds.pairs() == {PAIR}
    for batch_id in reversed(order):
        undo(feeds.database, f"undo:{batch_id}", clock=clock)
    assert feeds.pairs() == set()
