"""Drop what an applied snapshot does not name, page by page, each page exactly once."""

import time
from typing import Final

from worker.database.engine import Database
from worker.moments import Clock
from worker.plans.applying import SLICE_SECONDS
from worker.plans.holder import Holder
from worker.plans.repository import find_members
from worker.snapshots.sweep import Sweep, sweep_page

PAUSE: Final = 0.01
"""Seconds between two pages, so that other transactions can enroll in between."""


def sweep_some(database: Database, holder: Holder, clock: Clock) -> bool:
    """Drop planned pages for a while; return whether all of them were done.

    If not, any worker may go on with the plan at once. Raises LeaseLost, DBAPIError.
    """
    end = time.monotonic() + SLICE_SECONDS
    with database.reading() as connection:
        last = find_members(connection, holder.plan.id)[-1]
    plan = holder.plan
    sweep = Sweep(
        plan.id, last.batch_id, last.chunks, plan.data_set, plan.data_set_name, plan.moment
    )
    while sweep_page(database, sweep, clock=clock):
        if time.monotonic() > end:
            holder.go_on()
            return False
        holder.renew()
        time.sleep(PAUSE)
    return True
