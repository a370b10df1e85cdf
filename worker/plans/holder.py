"""Hold a plan while this process works on it, and change its state only while it does."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from producer.contract.plans import PlanState
from worker.database.engine import Database, transaction
from worker.moments import Clock
from worker.plans.repository import (
    DECIDED,
    Lease,
    LeaseLost,
    change,
    claim_due,
    find_behind,
    find_due,
    finish,
    make_due,
    time_now,
)
from worker.plans.times import (
    LEASE,
    LONGEST_WAIT,
    MANY_ATTEMPTS,
    PLANNING_LEASE,
    RENEW,
    pause_after,
)

T = TypeVar("T")


class Holder:
    """A plan that this process holds. The methods raise LeaseLost and DBAPIError.

    `plan` is its row as it was when the process took it.
    """

    def __init__(self, database: Database, lease: Lease, clock: Clock) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock
        self._guard = threading.RLock()
        """Held while the lease changes, or is compared with that in the database."""
        self._renewed = self._active = time.monotonic()
        self.plan: Any = lease.plan

    def renew(self) -> None:
        """Hold the plan for longer, unless that was done just now."""
        self._active = time.monotonic()
        self._renew(RENEW)

    def beat(self) -> None:
        """Hold the plan for longer, from another thread than the one that works on it."""
        try:
            self._renew(timedelta(0))
        except LeaseLost:
            self._renewed = -math.inf  # So the next `renew` finds out as well.
            raise

    def seconds_without_progress(self) -> float:
        """Return how long ago the work last called `renew`."""
        return time.monotonic() - self._active

    def _renew(self, after: timedelta) -> None:
        def put_off(connection: Connection) -> datetime:
            until = time_now(connection, self._clock) + lease_of(self.plan)
            change(connection, self._lease, due_at=until)
            return until

        with self._guard:
            if time.monotonic() - self._renewed < after.total_seconds():
                return
            self._renewed = time.monotonic()
            self._lease = self._lease._replace(due_at=transaction(self._database, put_off))

    def change(self, connection: Connection, **values: Any) -> None:
        """Change the plan in an open transaction, and count attempts from 0 again."""
        change(connection, self._lease, **{"attempts": 0, **values})

    def note(self, progress: dict[str, Any]) -> None:
        """Store how far the present attempt has come."""
        attempts = self.plan.attempts + 1
        self.do(lambda connection: self.change(connection, progress=progress, attempts=attempts))

    def finish(self, connection: Connection, state: PlanState, **values: Any) -> None:
        """End the plan in an open transaction, and remove its stored chunks."""
        now = time_now(connection, self._clock)
        self.change(connection, **finish(connection, self.plan, state, now, **values))

    def now(self, connection: Connection) -> datetime:
        """Return the present time by the clock that all workers of the database share."""
        return time_now(connection, self._clock)

    def do(self, work: Callable[[Connection], T]) -> T:
        """Run work in a transaction."""
        with self._guard:
            return transaction(self._database, work)

    def go_on(self) -> None:
        """Release the plan after a part of the work: any worker may go on at once."""
        self.do(lambda c: self.change(c, due_at=self.now(c), detail=None))

    def retry(self, detail: str | None, *, attempts: int | None = None) -> None:
        """Release the plan for another attempt, after a pause that grows with the attempts."""
        count = self.plan.attempts + 1 if attempts is None else attempts

        def put_off(connection: Connection) -> None:
            due_at = self.now(connection) + pause_after(count)
            values = {"attempts": count, "detail": detail, "progress": None}
            self.change(connection, due_at=due_at, **values)

        self.do(put_off)


class Turns:
    """Whose plan this process took last: the plans of one submitter do not hold up all others."""

    def __init__(self) -> None:
        self.last: str | None = None
        """The submitter; None at the beginning, and after a plan without one."""


def take_next(
    database: Database, clock: Clock, turns: Turns | None = None, *, decided_first: bool = False
) -> Holder | None:
    """Take a plan that is due, of the submitter whose turn it is; None if none is due.

    `decided_first` takes a plan of any submitter that is to be applied if one is due; this is
    no turn. As long as none is due, this only reads. Raises DBAPIError.
    """
    turns = turns or Turns()
    with database.reading() as connection:
        if not find_due(connection, time_now(connection, clock)):
            return None

    def claim(connection: Connection) -> Lease | None:
        now = time_now(connection, clock)
        after = turns.last
        return claim_due(connection, now, lease_of, after=after, decided_first=decided_first)

    lease = transaction(database, claim)
    if lease is None:
        return None
    if not (decided_first and lease.plan.state in DECIDED):
        turns.last = lease.plan.submitter
    return Holder(database, lease, clock)


def catch_up(database: Database, clock: Clock) -> Sequence[str]:
    """Let plans go on that wait because the clock was set back; return their ids.

    A plan waits until a time, so it would wait for as long as the clock was ahead. A process that
    works on one finds out that it lost the plan, and another one goes on. Raises DBAPIError.
    """
    with database.reading() as connection:
        behind = find_behind(connection, time_now(connection, clock) + LONGEST_WAIT)
    if behind:
        transaction(database, lambda c: make_due(c, behind, time_now(c, clock)))
    return behind


def lease_of(plan: Any) -> timedelta:
    """Return for how long a worker holds a plan at a time.

    It is longer if workers were lost again and again while they made the plan: they may have died
    of it.
    """
    if plan.state != PlanState.STAGED:
        return LEASE
    if plan.attempts < MANY_ATTEMPTS:
        return PLANNING_LEASE
    return PLANNING_LEASE + pause_after(plan.attempts)
