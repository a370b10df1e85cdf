"""A record that kills each worker that plans it ends its plan, with a reason that names it."""

import os

import pytest

from producer.contract.plans import PlanState
from support.commands import run_python
from support.databases import store_roster, url_of
from support.paths import ROOT, TESTS
from support.staging import advance, chunks_of, request, stage
from worker.database.engine import Database

KILLED = """
import os, signal, sys
from sqlalchemy import update
from support.staging import MOMENT, advance
from worker.database.engine import Database
from worker.enrollment import shortcuts
from worker.plan_models import PlanRow

find_keys = shortcuts.find_keys

def poisoned(connection, model, ids):
    ids = list(ids)
    if "KILLS" in ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return find_keys(connection, model, ids)

shortcuts.find_keys = poisoned
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        advance(Database(sys.argv[1]))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    database = Database(sys.argv[1])
    with database.writing() as connection:
        connection.execute(update(PlanRow).values(due_at=MOMENT))
    database.close()
"""


def lose_workers(database: Database, count: int) -> None:
    """Let so many workers begin to plan a poison record, and let their leases end."""
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    parent = run_python("-c", KILLED, url_of(database), str(count), env=environment, cwd=ROOT)
    assert parent.returncode == 0, parent.stderr


@pytest.mark.parametrize(("deaths", "is_given_up"), [(3, False), (4, True)])
def test_a_plan_that_kills_its_workers_is_discarded_and_names_the_chunk(
    sqlite_database: Database, deaths: int, is_given_up: bool
) -> None:
    """The worker that comes after them has no poison here, so it can make the plan."""
    database = sqlite_database
    store_roster(database, ["A", "B"], ["M1"])
    good, bad = (
        {"student_id": student, "course_ids": [course]}
        for student, course in (("A", "M1"), ("B", "KILLS"))
    )
    for each in chunks_of(request(hold="always"), [good], [bad]):
        stage(database, each)
    lose_workers(database, deaths)
    after = advance(database)
    if is_given_up:
        assert after.state is PlanState.DISCARDED
        assert "4 workers were lost, the last 3 of them at chunk 1 of the batch b" in str(
            after.advice
        )
    else:
        assert after.state is PlanState.HELD
