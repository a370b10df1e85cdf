"""A worker that makes a plan holds it by a short lease, and another one makes it if that is lost.

Both databases.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select, update

from producer.contract.plans import PlanState
from support.databases import url_of
from support.staging import MOMENT, advance, chunks_of, request, stage, work_on
from support.waiting import wait_for
from worker.database.engine import Database
from worker.plan_models import PlanRow
from worker.plans.advance import advance_next
from worker.plans.heartbeat import renew_until
from worker.plans.holder import take_next
from worker.plans.repository import LeaseLost, time_now
from worker.plans.times import PLANNING_LEASE

pytestmark = pytest.mark.usefixtures("roster")

ONE_LONG_STATEMENT = """
import sys
from datetime import timedelta
from worker.plans import times

times.RENEW = timedelta(milliseconds=50)

from support.staging import advance
from worker.database.engine import Database
from worker.enrollment import shortcuts

FOREVER = {
    "postgresql": "SELECT pg_sleep(100)",
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
    " SELECT count(*) FROM c",
}

def find_keys(connection, model, ids):
    print("planning", flush=True)
    connection.exec_driver_sql(FOREVER[connection.dialect.name])

shortcuts.find_keys = find_keys
advance(Database(sys.argv[1]))
"""


@contextmanager
def planning(database: Database) -> Iterator[subprocess.Popen[str]]:
    """Run a process that makes a plan, and that is in one long statement from now on."""
    child = subprocess.Popen(
        [sys.executable, "-c", ONE_LONG_STATEMENT, url_of(database)],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "planning\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def lease_ends(database: Database) -> datetime:
    with database.reading() as connection:
        ends = connection.execute(select(PlanRow.due_at)).scalar_one()
    assert ends is not None
    return ends


def is_renewed(database: Database, before: datetime) -> bool:
    return lease_ends(database) > before


def end_lease(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(update(PlanRow).values(due_at=MOMENT))


def stage_plan(database: Database) -> None:
    (only,) = chunks_of(request(hold="always"), [{"student_id": "A", "course_ids": ["M1"]}])
    stage(database, only)


def test_a_lease_is_renewed_during_one_statement_and_ends_soon_after_a_kill(
    database: Database,
) -> None:
    stage_plan(database)
    work = work_on(database)
    with planning(database) as child:
        for _ in range(3):
            wait_for(partial(is_renewed, database, lease_ends(database)))
        assert not advance_next(work)
        child.kill()
    with database.reading() as connection:
        left = lease_ends(database) - time_now(connection, work.clock)
    assert left <= PLANNING_LEASE <= timedelta(seconds=30)
    end_lease(database)
    assert advance(database).state is PlanState.HELD


def test_a_worker_that_makes_no_progress_does_not_hold_its_plan(database: Database) -> None:
    stage_plan(database)
    holder = take_next(database, work_on(database).clock)
    assert holder is not None
    before = lease_ends(database)
    renew_until(threading.Event(), holder, every=timedelta(0), stuck=timedelta(0))
    assert lease_ends(database) == before


def test_a_worker_that_lost_its_plan_finds_out_at_its_next_step(database: Database) -> None:
    stage_plan(database)
    holder = take_next(database, work_on(database).clock)
    assert holder is not None
    holder.renew()
    end_lease(database)
    with pytest.raises(LeaseLost):
        holder.beat()
    with pytest.raises(LeaseLost):
        holder.renew()
