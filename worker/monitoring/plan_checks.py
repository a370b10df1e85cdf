"""Check the plans in a database, for `enroll doctor`: which ones wait, and what they hold back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from producer.contract.findings import Finding, ok, warning
from producer.contract.plans import PlanState
from producer.contract.printable import moment_text, shell_argument
from worker.plans.reports.repository import count_unfinished, find_hindered, oldest_unfinished
from worker.plans.repository import time_now
from worker.retention.repository import find_running

LONG: Final = timedelta(hours=1)
"""How long a submission may take to arrive and to be planned, before it is a warning."""


def check_waiting_plans(connection: Connection) -> Iterator[Finding]:
    """Check which plans have not ended. Raises DBAPIError."""
    if (hindered := find_hindered(connection)) is not None:
        yield warning(
            "plans",
            f"{hindered.plans:,} cannot continue; the first one is {hindered.plan_id}:"
            f" {hindered.detail}",
            "Remove the cause; then it continues by itself. `enroll plan"
            f" {shell_argument(hindered.plan_id)}` shows more, and docs/operations/runbook.md says"
            " what to do for each cause.",
        )
    unfinished = count_unfinished(connection)
    counts = ", ".join(f"{counted.plans:,} {counted.state}" for counted in unfinished)
    now = time_now(connection, _now)
    found = "; ".join(filter(None, [counts or "none are waiting", _held_back(connection, now)]))
    since = {counted.state: now - counted.since for counted in unfinished}
    remedies = [
        f"The first {state} one has been waiting for {what} for"
        f" {since[state].total_seconds() / 3600:,.0f} h. {remedy}"
        for state, longer_than, what, remedy in _WAITING
        if state in since and since[state] >= longer_than
    ]
    if remedies:
        yield warning("plans", found, " ".join([*remedies, "`enroll batches` lists all of them."]))
    else:
        yield ok("plans", found)


_WAITING: Final = (
    (
        PlanState.HELD,
        timedelta(0),
        "a decision",
        "Look at it with `enroll plan`, then run `enroll approve` or `enroll discard`.",
    ),
    (
        PlanState.STAGED,
        LONG,
        "its chunks or its report",
        (
            "See why with `enroll plan`: have it submitted again with `--resume` if chunks are"
            " missing, or run `enroll discard`."
        ),
    ),
)
"""The states in which somebody has to do something: after how long, what is missing, the remedy."""


def _held_back(connection: Connection, now: datetime) -> str | None:
    """Return the moment after which no history is removed, and the plan or the batch it is for."""
    plan, batch = oldest_unfinished(connection), find_running(connection, now)
    holders = [] if plan is None else [(plan.moment, f"plan {plan.plan_id}")]
    if batch is not None:
        holders.append((batch.moment, f"batch {batch.id}, which is not done"))
    if not holders:
        return None
    moment, name = min(holders)
    return f"`enroll prune` removes no history after {moment_text(moment)}, because of the {name}"


def _now() -> datetime:
    return datetime.now(UTC)
