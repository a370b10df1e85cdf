"""Advance plans in a pool process: their chunks are applied like those that just arrived."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from celery.exceptions import Reject
from sqlalchemy.exc import DBAPIError

from producer.schemas import Kind
from worker.database.errors import is_outage, outage_of, sentence_of
from worker.messaging.unavailable import DatabaseUnavailable
from worker.plans.advance import PlanWork, advance_next
from worker.plans.applying import StoredChunk
from worker.plans.helping import help_apply
from worker.plans.holder import catch_up
from worker.plans.reports.repository import count_unfinished
from worker.plans.repository import LeaseLost, time_now
from worker.tasks.delivery import ChunkDelivery

if TYPE_CHECKING:
    from worker.tasks.services import Services

log = logging.getLogger(__name__)

COUNT_SECONDS: Final = 15.0
"""Seconds between two counts of the plans that have not ended, in each process."""

_counted_at = float("-inf")


def advance(services: "Services") -> bool:
    """Do a step of a plan that is due; return whether another one may be due.

    While the database is unavailable, nothing is done, and nothing is lost: the plan stays due.
    """
    services.clock.read()

    def apply(chunk: StoredChunk) -> str | None:
        services.plans_due.call_helpers()
        return _apply(services, chunk)

    work = PlanWork(
        services.database,
        apply,
        services.clock,
        services.expiry,
        decided_first=services.plans_due.take_turn(),
        turns=services.plan_turns,
    )

    def step() -> bool:
        _count(services)
        return advance_next(work)

    return _unless_unavailable(services, step)


def help_to_apply(services: "Services") -> bool:
    """Apply a chunk of a plan that another process applies; return whether there may be more."""
    services.clock.read()
    work = PlanWork(services.database, partial(_apply, services), services.clock, services.expiry)
    return _unless_unavailable(services, partial(help_apply, work))


def _unless_unavailable(services: "Services", step: Callable[[], bool]) -> bool:
    """Do a step, and return what it returns; False if the database is unavailable."""
    try:
        return services.retry_policy.through_outage(step, 0)
    except Reject as error:
        log.warning("A plan waits. %s", error.reason)
    except DBAPIError as error:
        if not is_outage(error):
            raise
        log.warning("A plan waits. %s: %s", outage_of(error), sentence_of(error))
        services.events.database_refused(error)
    return False


def _count(services: "Services") -> None:
    """Report the plans that have not ended, unless this process has just done so.

    Those that wait because the clock was set back go on.
    """
    global _counted_at  # noqa: PLW0603 - one report for the whole process
    if time.monotonic() - _counted_at < COUNT_SECONDS:
        return
    _counted_at = time.monotonic()
    with services.database.reading() as connection:
        unfinished = count_unfinished(connection)
        now = time_now(connection, services.clock)
    services.events.plans_counted(unfinished, now)
    if behind := catch_up(services.database, services.clock):
        log.warning(
            "%d plans waited because the clock was set back, and now continue; the first one is %s",
            len(behind),
            behind[0],
        )


def _apply(services: "Services", chunk: StoredChunk) -> str | None:
    """Apply a stored chunk with all that a delivered one has: attempts, isolation, the circuit."""
    delivery = ChunkDelivery(
        services.database,
        services.events,
        chunk.kind,
        f"plan:{chunk.batch_id}:{chunk.number}",
        (),
        {},
        chunk.origin,
        clock=services.clock,
        from_plan=chunk,
    )
    if chunk.may_have_killed:
        services.attempts.failed(delivery.task_id)
    while True:
        try:
            services.retry_policy.with_fallbacks(
                delivery.task_id,
                _while_stored(delivery.apply),
                isolate=_while_stored(delivery.isolate),
                give_up=_while_stored(delivery.give_up),
            )
            break
        except DatabaseUnavailable:
            raise
        except Reject:
            continue  # A failed attempt was counted; after a few, what fails is isolated.
    if chunk.kind is Kind.COURSES and delivery.applied and delivery.applied.counts.get("upserted"):
        services.cached.begin_generation()  # Copies of results name the titles of courses.
    return delivery.refused


def _while_stored(way: Callable[[], None]) -> Callable[[], None]:
    """Let a way to apply a stored chunk do nothing once the chunk is not stored any more.

    Then its plan has ended, and neither another attempt nor a dead letter could read the chunk.
    """

    def run() -> None:
        with suppress(LeaseLost):
            way()

    return run
