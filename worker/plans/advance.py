"""Do what comes next for a plan: make it, start to apply it, apply it, sweep, or let it expire.

Each step ends in one change of state, which comes with what belongs to it in one transaction. A
process that dies leaves its plan due after a while, and another one does the step again.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from producer.contract.plans import PlanState
from worker.batches.members.arrival import all_chunks_arrived
from worker.database.engine import Database
from worker.database.errors import is_lock, is_outage, refusal_of, sentence_of
from worker.moments import Clock
from worker.plans.applying import ApplyStored, apply_some
from worker.plans.concluding import plan_chunks
from worker.plans.finishing import finish_applied
from worker.plans.holder import Holder, Turns, take_next
from worker.plans.remedies import TRIES_AGAIN
from worker.plans.repository import LeaseLost, find_members
from worker.plans.starting import start_applying
from worker.plans.sweeping import sweep_some
from worker.plans.times import Expiry

log = logging.getLogger(__name__)

RELEASE_SECONDS: Final = 15.0
"""Seconds for which a worker tries to release a plan while the database is unavailable.

Most outages are shorter, so the plan need not wait until its lease ends.
"""


class PlanWork(NamedTuple):
    """What a worker needs to advance plans."""

    database: Database
    apply: ApplyStored
    clock: Clock
    expiry: Expiry = Expiry()
    decided_first: bool = False
    """Whether a plan that is to be applied comes before all others."""
    turns: Turns | None = None
    """Whose plan came last; None to begin with the first submitter."""


def advance_next(work: PlanWork) -> bool:
    """Do the next step of a plan that is due, of the submitter whose turn it is.

    Returns False if no plan is due; call it again after True. Raises DBAPIError, and what
    `work.apply` raises, if the database is unavailable.
    """
    decided_first = work.decided_first
    holder = take_next(work.database, work.clock, work.turns, decided_first=decided_first)
    if holder is None:
        return False
    log.info("plan advances", extra={"plan_id": holder.plan.id, "state": holder.plan.state})
    try:
        _STEPS[PlanState(holder.plan.state)](work, holder)
    except LeaseLost:
        log.info("The plan %s was taken over by another worker", holder.plan.id)
    except Exception as error:
        if is_outage(error) or getattr(error, "requeue", False):
            _release(holder, error)
            raise
        log.exception("A step of the plan %s failed", holder.plan.id)
        holder.retry(f"a step failed ({sentence_of(error)}); the worker's log says more.")
    return True


def _release(holder: Holder, error: Exception) -> None:
    """Let a worker try again soon, because the environment failed and not the plan."""
    detail = holder.plan.detail
    # Once this can be stored, an outage is over and needs no words. A stored chunk is applied like
    # a message, and reports what the database refused in the same way.
    refusal = refusal_of(error) if is_outage(error) else getattr(error, "refusal", None)
    if refusal is not None:
        detail = f"{refusal}. {TRIES_AGAIN}"
    release = partial(holder.retry, detail, attempts=holder.plan.attempts)
    try:
        _repeat(release, lambda e: is_outage(e) and not is_lock(e))
    except LeaseLost:
        pass
    except DBAPIError as failure:
        # If the database stays away, the plan is due again once its lease ends.
        if is_lock(failure):  # The process is free for lookups while another session holds it.
            threading.Thread(target=_release_later, args=(release,), daemon=True).start()


def _repeat(release: Callable[[], None], may_pass: Callable[[BaseException], bool]) -> None:
    """Release a plan; try again while that fails in a way that may pass."""
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        wait=wait_exponential(multiplier=0.1, max=2),
        stop=stop_after_delay(RELEASE_SECONDS),
        reraise=True,
    )
    retrying(release)


def _release_later(release: Callable[[], None]) -> None:
    """Release a plan in another thread, if a lock allows that soon enough."""
    with contextlib.suppress(DBAPIError, LeaseLost):
        _repeat(release, is_outage)


def _advance_staged(work: PlanWork, holder: Holder) -> None:
    with work.database.reading() as connection:
        members = find_members(connection, holder.plan.id)
        newest = max(member.staged_at or holder.plan.staged_at for member in members)
        is_old = holder.now(connection) - newest >= work.expiry.staged
    if is_old:
        _expire(
            holder,
            work.expiry.staged,
            "not all of its chunks had arrived, or no plan could be made of them,",
        )
    elif all_chunks_arrived(members):
        plan_chunks(work.database, holder, members, work.clock, work.expiry)
    else:
        wait = newest + work.expiry.staged
        holder.do(lambda connection: holder.change(connection, due_at=wait))


def _advance_held(work: PlanWork, holder: Holder) -> None:
    expires_at = holder.plan.planned_at + work.expiry.held
    with work.database.reading() as connection:
        is_old = holder.now(connection) >= expires_at
    if is_old:
        _expire(holder, work.expiry.held, "there was no decision")
    else:
        holder.do(lambda connection: holder.change(connection, due_at=expires_at))


def _expire(holder: Holder, after: timedelta, because: str) -> None:
    again = (
        "Submit the newest file under another batch id."
        if holder.plan.request["snapshot"]
        else "Submit the file again under another batch id if it is still needed."
    )
    detail = f"It expired because {because} within {after.days} days. {again}"
    holder.do(lambda connection: holder.finish(connection, PlanState.DISCARDED, detail=detail))


def _advance_approved(_: PlanWork, holder: Holder) -> None:
    start_applying(holder)


def _advance_applying(work: PlanWork, holder: Holder) -> None:
    if not apply_some(work.database, holder, work.apply):
        return
    if holder.plan.request["snapshot"]:
        values: dict[str, Any] = {"state": PlanState.SWEEPING, "detail": None}
        holder.do(lambda c: holder.change(c, due_at=holder.now(c), **values))
    else:
        finish_applied(work.database, holder)


def _advance_sweeping(work: PlanWork, holder: Holder) -> None:
    if sweep_some(work.database, holder, work.clock):
        finish_applied(work.database, holder)


_STEPS: Final = {
    PlanState.STAGED: _advance_staged,
    PlanState.HELD: _advance_held,
    PlanState.APPROVED: _advance_approved,
    PlanState.APPLYING: _advance_applying,
    PlanState.SWEEPING: _advance_sweeping,
}
"""What a worker does with a plan that is due, by its state."""
