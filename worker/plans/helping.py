"""Help another process of the worker to apply the stored chunks of a plan.

The ledger decides who applied a chunk, so a helper needs no lease. It takes chunks from the second
half of those that are left, because the other process begins with the first ones.
"""

import random
from typing import Final

from producer.schemas import Kind
from worker.plans.advance import PlanWork
from worker.plans.applying import apply_number, missing_chunks
from worker.plans.repository import find_applying, find_members, time_now

FEWEST: Final = 4
"""With fewer chunks left, a helper would only do what the other process is about to do."""


def help_apply(work: PlanWork) -> bool:
    """Apply one of the last chunks of a plan that is being applied; return whether one was applied.

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
        # At random, so that several helpers seldom choose the same one.
        number = random.choice(numbers[len(numbers) // 2 :])  # noqa: S311 - no secret
        return apply_number(work.database, member, number, work.apply) is None
    return False
