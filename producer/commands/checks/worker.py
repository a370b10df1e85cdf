"""Ask a worker for its own health and that of its database, as any submitter may."""

import time
from importlib.metadata import version

from producer.client import EnrollmentClient
from producer.commands.checks.clock import clock
from producer.contract.findings import Finding, State, ok, warning, wrong
from producer.contract.lookups import DatabaseState, WorkerHealth
from producer.contract.routing import TaskName
from producer.errors import (
    AnswerNotUnderstood,
    BrokerUnavailable,
    EnrollmentError,
    NoWorkerAnswered,
)


def ask_worker(client: EnrollmentClient) -> tuple[WorkerHealth | None, list[Finding]]:
    """Ask a worker about itself and its database; return its report, if any, and the findings."""
    started = time.perf_counter()
    try:
        health = client.health()
    except NoWorkerAnswered as error:
        # The error's own advice is left out, because the remedy has more.
        silence = str(error).partition(" s. ")[0] + " s"
        remedy = "Start a worker: celery -A worker worker; its queues (-Q) must include lookups."
        return None, [wrong("worker", silence, remedy)]
    except BrokerUnavailable as error:
        return None, [wrong("broker", error.problem, error.remedy)]
    except AnswerNotUnderstood as error:
        remedy = "Install the same version here and on the workers."
        return None, [wrong("worker", str(error), remedy)]
    except EnrollmentError as error:
        remedy = f"Read the worker's log: the lines that name {TaskName.HEALTH} give the reason."
        return None, [wrong("worker", str(error), remedy)]
    answered = f"answered in {(time.perf_counter() - started) * 1000:.0f} ms"
    findings = [
        ok("worker", answered),
        _versions(health),
        *clock("the worker's", health.now.timestamp()),
        # A worker of an older version reports no findings of its own.
        *(health.findings or [_database_of(health)]),
    ]
    return health, findings


def _versions(health: WorkerHealth) -> Finding:
    own_version = version("enrollment-worker")
    versions = f"{own_version} here, {health.version} on the worker that answered"
    if own_version == health.version:
        return ok("versions", versions)
    remedy = "Upgrade the database first, then the workers, then the clients."
    return warning("versions", versions, remedy)


_DATABASE: dict[DatabaseState, tuple[State, str]] = {
    DatabaseState.READY: (State.OK, ""),
    DatabaseState.AWAY: (
        State.WRONG,
        "Start the database, or correct ENROLL_DATABASE_URL of the workers.",
    ),
    DatabaseState.OUTDATED: (
        State.WRONG,
        "Run `python -m worker.migrate`, or upgrade the workers if the database is newer.",
    ),
}


def _database_of(health: WorkerHealth) -> Finding:
    state, remedy = _DATABASE[health.database]
    report = f"as the worker sees it: {health.database.shown}. {health.detail}".strip()
    return Finding(check="database", state=state, found=report, remedy=remedy)
