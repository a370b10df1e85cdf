"""The owner of an enrollment is right after an undo, and after the undo of that. Both databases."""

import pytest

from support.snapshots import Feeds, at, clock, grid, make_feeds
from worker.database.engine import Database
from worker.undo.run import undo

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
