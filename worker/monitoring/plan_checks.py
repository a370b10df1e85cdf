"""Check the plans in a database, for `enroll doctor`: which ones wait, and what they hold back."""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection

from producer.contract.findings import Finding, ok, warning
from producer.contract.plans import PlanState
from producer.contract.printable import moment_text, shell_argument
from worker.plans.reports.repository import count_unfinished, find_hindered, oldest_unfinished
from worker.plans.repository import time_now


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
    oldest = oldest_unfinished(connection)
    if not unfinished or oldest is None:
        yield ok("plans", "none are waiting")
        return
    counts = ", ".join(f"{counted.plans:,} {counted.state}" for counted in unfinished)
    found = (
        f"{counts}; because of the plan {oldest.plan_id}, `enroll prune` removes no history after"
        f" {moment_text(oldest.moment)}"
    )
    held = [counted for counted in unfinished if counted.state == PlanState.HELD]
    if not held:
        yield ok("plans", found)
        return
    hours = (time_now(connection, _now) - held[0].since).total_seconds() / 3600
    remedy = (
        f"The first one has been waiting for a decision for {hours:,.0f} h. `enroll batches` lists"
        " them; look at each with `enroll plan`, then run `enroll approve` or `enroll discard`."
    )
    yield warning("plans", found, remedy)


def _now() -> datetime:
    return datetime.now(UTC)
