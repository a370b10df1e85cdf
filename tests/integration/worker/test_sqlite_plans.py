"""SQLite reads a list of rows once for a statement, and not once for each row of a table."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, event

from support.databases import store_roster
from support.snapshots import Feeds, at, clock
from worker.database.engine import Database
from worker.undo.run import undo

STUDENTS = [f"S{n}" for n in range(9)]
PAIRS = [(student, "C1") for student in STUDENTS]

Step = tuple[int, int, int, str]
"""A line of `EXPLAIN QUERY PLAN`: its number, that of the step that it is part of, and its text."""


@pytest.fixture
def database(new_database: Callable[[str], str]) -> Iterator[Database]:
    opened = Database(new_database("sqlite"))
    store_roster(opened, STUDENTS, ["C1"])
    yield opened
    opened.close()


def reads_a_list_again_and_again(steps: list[Step]) -> bool:
    """Return whether a list is in an inner loop, or in a subquery that runs for each row."""
    texts = {number: text for number, _, _, text in steps}
    parents = {number: parent for number, parent, _, _ in steps}
    loops: set[int] = set()
    for _, parent, _, text in steps:
        if "VIRTUAL TABLE" in text:
            above, is_correlated = parent, False
            while above in texts:
                is_correlated |= "CORRELATED" in texts[above]
                above = parents[above]
            if is_correlated or parent in loops:
                return True
        if text.startswith(("SCAN", "SEARCH")):
            loops.add(parent)
    return False


def test_drops_outcomes_and_undos_read_their_lists_once(database: Database) -> None:
    slow, examined = [], set()
    feeds = Feeds(database)

    def examine(connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        parameters = rest[0]
        if ") AS source" not in statement or statement in examined:
            return
        examined.add(statement)
        driver = connection.connection.driver_connection
        assert driver is not None
        steps = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
        if reads_a_list_again_and_again(steps):
            slow.append(statement)

    feeds.snapshot("sis", PAIRS, at(1), batch_id="first")
    event.listen(database.engine, "before_cursor_execute", examine)
    feeds.batch("lms", PAIRS[:4], at(2), batch_id="other")
    feeds.snapshot("sis", PAIRS[2:5], at(3), batch_id="second")
    feeds.batch(None, PAIRS[:3], at(4), batch_id="drops", drops=True)
    for batch_id in ("drops", "second", "other", "undo:second"):
        undo(database, batch_id, clock=clock)
    assert len(examined) > 10
    assert slow == []
