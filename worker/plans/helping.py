"""Help another process of the worker to apply the stored chunks of a plan.

The ledger decides who applied a chunk, so a helper needs no lease. It takes chunks from the second
half of those that are left, because the other process begins with the first ones.
"""

import random
import time
from typing import Any, Final

from producer.schemas import Kind
from worker.plans.advance import PlanWork
from worker.plans.applying import apply_number, missing_chunks
from worker.plans.repository import find_applying, find_members, time_now

FEWEST: Final = 4
"""With fewer chunks left, a helper would only do what the other process is about to do."""


HELP_SECONDS: Final = 0.1
"""Seconds after which a helper looks again what is left, and lets other work have its turn."""


def help_apply(work: PlanWork) -> bool:
    """Apply some of the last chunks of a plan that is being applied; return whether any was.

    Only chunks of enrollments may be applied in any order, once the rosters before them are. Raises
    DBAPIError, and what `work.apply` raises, if the database is unavailable.
    """
    with work.database.reading() as connection:
        plan_id = find_applying(connection, time_now(connection, work.clock))
        members = [] if plan_id is None else find_members(connection, plan_id)
    for member in members:
        numbers = missing_chunks(work.database, member)
        if not numbers:
            continue
        if member.kind != Kind.ENROLLMENTS or len(numbers) < FEWEST:
            return False
        last = numbers[len(numbers) // 2 :]
        random.shuffle(last)  # So that several helpers seldom choose the same one.
        return _apply_some(work, member, last[: len(numbers) - FEWEST + 1])
    return False


def _apply_some(work: PlanWork, member: Any, numbers: list[int]) -> bool:
    """Apply some of these chunks, until one fails; return whether any was applied."""
    end = time.monotonic() + HELP_SECONDS
    for done, number in enumerate(numbers):
        if apply_number(work.database, member, number, work.apply) is not None:
            return done > 0
        if time.monotonic() > end:
            break
    return True
