"""Each pair is undone on one page of the results of a batch, so that it is counted once."""

import pytest

from producer.contract.chunks import line_request_id
from support.snapshots import Feeds, Pair, at, chunk_of, clock, deliver, grid, make_feeds
from worker.database.engine import Database
from worker.undo.pages import Page, Source, read_page
from worker.undo.run import undo
from worker.undo.start import check

FIRST, SECOND = grid((1, 2))


@pytest.fixture
def feeds(database: Database) -> Feeds:
    feeds = make_feeds(database, 3, 1)
    feeds.batch(None, [FIRST, SECOND], at(0))
    feeds.batch(None, grid((3,)), at(1), batch_id="other")
    undo(database, "other", clock=clock)
    return feeds


def pairs_of_page(feeds: Feeds, page: Page) -> set[int]:
    """Return the keys of the students whose enrollments a page of the batch undoes."""
    with feeds.database.writing() as connection:
        batch = check(connection, "list")
        content = read_page(connection, batch, page, may_change_twice=True)
    return {each.student for each in content.reversals}


def test_a_pair_that_a_list_names_on_two_pages_is_undone_on_the_first_one(feeds: Feeds) -> None:
    feeds.reopen(None, [FIRST, SECOND], at(2), batch_id="list")
    after = line_request_id("list", 0, 0)
    assert pairs_of_page(feeds, Page(Source.LINES, "")) == {1, 2}
    # The rest of the list names both students, and the first line is the first one's.
    assert pairs_of_page(feeds, Page(Source.LINES, after)) == {2}


def test_requests_with_ids_of_their_own_come_after_the_others(feeds: Feeds) -> None:
    lines = [record(FIRST, drop=True), record(FIRST), record(SECOND, drop=True, request_id="r1")]
    chunk = chunk_of("list", records=[*lines, record(FIRST, drop=True, request_id="r2")])
    deliver(feeds.database, chunk.model_copy(update={"ordered": True}), at(2))
    assert pairs_of_page(feeds, Page(Source.LINES, "")) == {1}
    assert pairs_of_page(feeds, Page(Source.OWN, "")) == {2}
    assert pairs_of_page(feeds, Page(Source.OWN, "r1")) == set()


def record(pair: Pair, *, drop: bool = False, **fields: str) -> dict[str, object]:
    student, course = pair
    courses = {"course_ids": [] if drop else [course], "drop_course_ids": [course] if drop else []}
    return {"student_id": student, **courses, **fields}
