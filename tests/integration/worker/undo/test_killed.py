"""An undo is killed before each of its commits, and then run again. Both databases."""

import os

import pytest
from sqlalchemy import func, select

from support import chunks
from support.commands import run_python
from support.databases import store_roster, url_of
from support.paths import ROOT, TESTS
from support.undoing import COURSES, STUDENTS, apply, pairs, request, undone
from worker.database.engine import Database
from worker.models import PastEnrollment

CHUNKS = 3
COMMITS = 2 + CHUNKS
"""The batch is stopped, its undo is stored, and then each chunk is a transaction."""

KILLED = """
import os, signal, sys
from sqlalchemy import event
from support.undoing import undone
from worker.database.engine import Database

database = Database(sys.argv[1])
left = [int(sys.argv[2])]

@event.listens_for(database.engine, "commit")
def kill(connection):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

undone(database)
"""


@pytest.mark.parametrize("commit", range(1, COMMITS + 1))
def test_an_undo_that_is_killed_continues_where_it_stopped(database: Database, commit: int) -> None:
    store_roster(database, STUDENTS, COURSES)
    for number in range(CHUNKS):
        before = {"requests": number, "rows": number}
        part = request("A", enroll=[COURSES[number]])
        apply(database, part, number=number, last=number == CHUNKS - 1, before=before)
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    child = run_python("-c", KILLED, url_of(database), str(commit), env=environment, cwd=ROOT)
    assert child.returncode == -9, child.stderr
    done = max(0, commit - 3)
    assert len(pairs(database)) == CHUNKS - done
    report = undone(database)
    assert pairs(database) == set()
    assert report.counts["dropped"] == CHUNKS
    assert chunks.books(database, "undo:b") == {"received": CHUNKS, "dropped": CHUNKS}
    with database.reading() as connection:
        ended = connection.scalar(select(func.count()).select_from(PastEnrollment))
    assert ended == CHUNKS
