"""An undo gives its process back soon when another session holds a lock. PostgreSQL."""

from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from support.databases import opened_database, store_roster, url_of
from support.undoing import COURSES, STUDENTS, apply, clock, pairs, request, undone
from worker.database import engine
from worker.database.engine import Database
from worker.database.errors import is_lock
from worker.undo.run import rehearse, undo


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("work", [undo, rehearse])
def test_an_undo_that_may_not_wait_tries_once_and_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch, work: Any
) -> None:
    store_roster(database, STUDENTS, COURSES)
    apply(database, request("A", enroll=["M1"]))
    monkeypatch.setitem(engine.SETTINGS, "lock_timeout", "20ms")
    errors: list[object] = []
    with opened_database(url_of(database)) as other, database.writing() as locking:
        event.listen(other.engine, "handle_error", errors.append)
        locking.execute(text("LOCK TABLE batches IN EXCLUSIVE MODE"))
        with pytest.raises(DBAPIError) as error:
            work(other, "b", clock=clock, busy_seconds=0)
    assert is_lock(error.value)
    assert len(errors) == 1
    assert pairs(database) == {("A", "M1")}
    undone(database)
    assert pairs(database) == set()
