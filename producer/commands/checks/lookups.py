"""Try kinds of lookups once each, as submitters do, with ids that do not exist."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from producer.client import EnrollmentClient
from producer.contract.findings import Finding, ok, warning, wrong
from producer.contract.routing import TaskName
from producer.errors import DropsNotKnown, EnrollmentError, NoWorkerAnswered
from producer.publishing.polling import PollingProblem

NOTHING = "enroll-doctor"
"""An id that no request, batch, student or course has."""


def _drops(client: EnrollmentClient) -> None:
    with suppress(DropsNotKnown):
        client.planned_drop_page(NOTHING, limit=1)


LOOKUPS: dict[TaskName, Callable[[EnrollmentClient], Any]] = {
    TaskName.STATUS: lambda client: client.status(NOTHING),
    TaskName.BATCH: lambda client: client.batch(NOTHING),
    TaskName.CHUNKS: lambda client: client.applied_chunks(NOTHING, [0]),
    TaskName.REFUSALS: lambda client: list(islice(client.refusals(NOTHING), 1)),
    TaskName.RESULTS: lambda client: client.results(NOTHING, limit=1),
    TaskName.STUDENT: lambda client: client.student(NOTHING),
    TaskName.HISTORY: lambda client: client.history(NOTHING, limit=1),
    TaskName.ROLL: lambda client: client.roll(NOTHING, limit=1),
    TaskName.ROLLS: lambda client: client.rolls([NOTHING]),
    TaskName.RECENT_BATCHES: lambda client: client.recent_batches(1),
    TaskName.PLAN: lambda client: client.plan(NOTHING),
    TaskName.PLANNED_DROPS: _drops,
}

UNTRIED: Final = frozenset({TaskName.HEALTH, TaskName.FIND_STUDENTS, TaskName.FIND_COURSES})
"""The other kinds: health has a check of its own, and a search would read the whole roster."""


def check_lookups(client: EnrollmentClient) -> Iterator[Finding]:
    """Try the kinds in `LOOKUPS`; stop at the first one that no worker answers."""
    started = time.perf_counter()
    failed = False
    for task, ask in LOOKUPS.items():
        try:
            ask(client)
        except EnrollmentError as error:
            failed = True
            if isinstance(error, NoWorkerAnswered):
                remedy = "Start more workers; the one that answered before is busy or has stopped."
                yield wrong("lookups", f"{task} failed: {error}", remedy)
                return
            remedy = (
                f"Read the workers' log: the lines that name {task} or begin with `The database`"
                " give the reason."
            )
            yield wrong("lookups", f"{task} failed: {error}", remedy)
    if not failed:
        milliseconds = (time.perf_counter() - started) * 1000
        yield ok("lookups", f"{len(LOOKUPS)} kinds answered, in {milliseconds:.0f} ms")
        yield _polls(client)


def _polls(client: EnrollmentClient) -> Finding:
    """Check whether a poll is one read of Redis; the workers have answered a lookup before."""
    match client.polling_problem():
        case PollingProblem.FORBIDDEN:
            return warning(
                "polls",
                "this user may not read the results that workers cache in Redis, so each poll asks"
                " a worker",
                "Give it the rules of the user producer in docs/redis-acl.conf.",
            )
        case PollingProblem.NO_COPIES:
            return warning(
                "polls",
                "the workers cache no results in Redis, so each poll asks a worker",
                "Upgrade the workers, and give their user the rules of docs/redis-acl.conf.",
            )
    return ok("polls", "recent results are read in Redis, without a worker")
