"""`enroll doctor`: what is wrong with a set-up, as seen from where it runs, and what to do.

It looks and changes nothing, but for one question to a worker, which any submitter may ask. What
can be seen of the database alone comes from the entry points `enroll.checks`.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import entry_points, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from producer.client import EnrollmentClient
from producer.contract.broker_url import REDIS, require_certificate_check
from producer.contract.lookups import DatabaseState, WorkerHealth
from producer.contract.routing import Queue
from producer.errors import BrokerUnavailable, EnrollmentError, NoWorkerAnswered

OLD_SERVER = 7
"""The first version of Redis that can do all that the worker asks of it."""
FULL = 0.8
"""The part of a Redis's memory from which on it is worth a warning."""
WAITING_LONG = {Queue.ENROLLMENTS: 60.0, Queue.LOOKUPS: 60.0, Queue.BATCHES: 900.0}
"""Seconds after which a message that waits is worth a warning, as in the alerts."""
UNNAMED = "celery"
"""The list into which Celery's clients put what names no queue."""
CLOCKS_APART = 5.0
"""Seconds by which clocks may differ: questions expire by them."""


class State(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    check: str
    state: State
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(check=check, state=State.OK, found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """It works, and may not for long."""
    return Finding(check=check, state=State.WARNING, found=found, remedy=remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    """It does not work, or loses data when something happens."""
    return Finding(check=check, state=State.WRONG, found=found, remedy=remedy)


def examine(client: EnrollmentClient, broker_url: str, timeout: float) -> Iterator[Finding]:
    """Look at everything that can be seen from here, in the order in which to mend it."""
    answers = True
    if broker_url.startswith(REDIS):
        with Redis.from_url(
            require_certificate_check(broker_url),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        ) as redis:
            for finding in _redis(redis, client.shown_url):
                # A full one takes no question to a worker.
                bad = finding.check in ("broker", "memory") and finding.state is State.WRONG
                answers = answers and not bad
                yield finding
    for brought in entry_points(group="enroll.checks"):
        yield from (Finding(**found) for found in _brought(brought))
    if answers:
        yield from _worker(client)


def _brought(brought: Any) -> Iterable[dict[str, str]]:
    try:
        check: Callable[[], Iterable[dict[str, str]]] = brought.load()
    except ImportError:
        return ()  # A submitter's installation, which has no driver for the database.
    return check()


def _redis(redis: Any, shown_url: str) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        redis.ping()
    except RedisError as error:
        said = f"{shown_url} does not answer: {error}"
        yield wrong("broker", said, "Start it, or correct ENROLL_BROKER_URL and what it allows.")
        return
    took = f"answers in {(time.perf_counter() - started) * 1000:.1f} ms"
    try:
        info = redis.info("everything")
    except NoPermissionError:
        yield ok("broker", f"{shown_url} {took}")
        yield warning(
            "persistence",
            "this user may not look at the server",
            "Run it as the operator, see docs/access.md: whether Redis may forget stays unknown.",
        )
        return
    except ResponseError as error:
        yield wrong("broker", f"{shown_url} refuses to work: {error}", "Wait, or ask its operator.")
        return
    yield _server(info, f"{shown_url} {took}")
    yield from (_persistence(info), _eviction(info), _memory(info))
    seconds, microseconds = redis.time()
    yield from _clock("the broker's", seconds + microseconds / 1e6)
    yield from _queues(redis)


def _server(info: dict[str, Any], where: str) -> Finding:
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    said = f"{where}: {name}"
    if info.get("cluster_enabled"):
        return wrong("broker", f"{said}, a cluster", "Use one server; queues cannot be spread.")
    if info.get("role") != "master":
        return wrong("broker", f"{said}, a replica", "Point ENROLL_BROKER_URL at the primary.")
    if int(str(info["redis_version"]).split(".")[0]) < OLD_SERVER:
        return wrong("broker", f"{said} is too old", "Upgrade to Redis 7 or Valkey.")
    return ok("broker", said)


def _persistence(info: dict[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        return wrong(
            "persistence",
            "a restart of Redis forgets what is queued (appendonly no)",
            "CONFIG SET appendonly yes, and the same in its configuration file.",
        )
    for part in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(part, "ok") != "ok":
            return wrong("persistence", f"{part} is {info[part]}", "Look at Redis's log and disk.")
    return ok("persistence", "appendonly yes: a restart forgets at most the last second")


def _eviction(info: dict[str, Any]) -> Finding:
    policy, limit = str(info.get("maxmemory_policy")), int(info.get("maxmemory", 0))
    said = f"maxmemory-policy {policy}"
    remedy = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file."
    if policy == "noeviction":
        return ok("eviction", f"{said}: a full Redis refuses, and throws nothing away")
    if not policy.startswith("allkeys"):
        return warning("eviction", f"{said}: a full Redis throws answers away", remedy)
    if not limit:
        return warning("eviction", f"{said}, although no maxmemory is set", remedy)
    return wrong("eviction", f"{said}: a full Redis throws the queues away", remedy)


def _memory(info: dict[str, Any]) -> Finding:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    said = f"{used / 2**20:,.0f} MiB used"
    if not limit:
        total = int(info.get("total_system_memory", 0))
        return ok("memory", f"{said}, no limit" + (f" but {total / 2**30:,.1f} GiB" * bool(total)))
    said += f" of {limit / 2**20:,.0f}"
    if used < FULL * limit:
        return ok("memory", said)
    if used >= limit and info.get("maxmemory_policy") == "noeviction":
        remedy = "Raise maxmemory: workers still drain the queues, and nobody can submit."
        return wrong("memory", f"{said}: it is full", remedy)
    return warning("memory", said, "Start more workers, raise maxmemory, or submit less at once.")


def _queues(redis: Any) -> Iterator[Finding]:
    for queue in Queue:
        count, age = redis.llen(queue.value), _age(redis.lindex(queue.value, -1))
        said = f"{count:,} wait in {queue.value}"
        if age is None:
            yield ok("queue", said)
        elif age < WAITING_LONG[queue]:
            yield ok("queue", f"{said}, the oldest for {age:,.0f} s")
        else:
            remedy = "Start workers, or more of them; see whether the running ones serve it (-Q)."
            yield warning("queue", f"{said}, the oldest for {age / 60:,.0f} min", remedy)
    # kombu's form of priorities: lists of their own beside the queue.
    beside = [f"{queue.value}\x06\x16{step}" for queue in Queue for step in (3, 6, 9)]
    for name in (*beside, UNNAMED):
        yield from _unread(redis, name)


def _unread(redis: Any, name: str) -> Iterator[Finding]:
    count = redis.llen(name)
    if not count:
        return
    queue = name.partition("\x06")[0]
    why = "name no queue" if name == UNNAMED else f"for {queue} have a priority"
    quoted = "'" + name.encode("unicode_escape").decode() + "'"
    yield warning(
        "queue",
        f"{count:,} messages {why}, and no worker reads them",
        f"Publish {'into the queue of the task' if name == UNNAMED else 'without a priority'}, and"
        f" submit these again: redis-cli LRANGE ${quoted} 0 -1 shows them, DEL ${quoted} removes"
        " them.",
    )


def _age(message: bytes | None) -> float | None:
    """Seconds since a message was submitted; None where it does not say."""
    try:
        at = json.loads(message or b"{}")["properties"]["timestamp"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return max(0.0, time.time() - at) if type(at) in (int, float) else None


def _worker(client: EnrollmentClient) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        health = client.health()
    except NoWorkerAnswered as error:
        remedy = "Start a worker: celery -A worker worker; its queues (-Q) must include lookups."
        yield wrong("worker", str(error), remedy)
        return
    except BrokerUnavailable as error:
        remedy = "Start it, or correct ENROLL_BROKER_URL."
        if "permission" in str(error).lower():
            remedy = "Ask as another of its users: operator, or producer (docs/access.md)."
        yield wrong("broker", str(error), remedy)
        return
    except EnrollmentError as error:
        yield wrong("worker", str(error), "Upgrade the workers; the producer is newer.")
        return
    yield ok("worker", f"answered in {(time.perf_counter() - started) * 1000:.0f} ms")
    yield _versions(health)
    yield from _clock("the worker's", health.now.timestamp())
    yield _database_of(health)


def _versions(health: WorkerHealth) -> Finding:
    mine = version("enrollment-worker")
    said = f"here {mine}, the worker that answered {health.version}"
    if mine == health.version:
        return ok("versions", said)
    return warning("versions", said, "Upgrade the database first, then workers, then producers.")


def _clock(whose: str, seconds: float) -> Iterator[Finding]:
    apart = abs(time.time() - seconds)
    if apart <= CLOCKS_APART:
        yield ok("clock", f"{whose} clock is {max(0.0, apart):.0f} s apart")
    else:
        said = f"{whose} clock is {apart:,.0f} s apart from this machine's"
        here = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC here"
        yield wrong("clock", f"{said} ({here})", "Let both follow NTP: questions expire by it.")


_DATABASE: dict[DatabaseState, tuple[Literal["ok", "wrong"], str]] = {
    DatabaseState.READY: ("ok", ""),
    DatabaseState.AWAY: ("wrong", "Start it, or correct ENROLL_DATABASE_URL of the workers."),
    DatabaseState.OUTDATED: ("wrong", "Run `python -m worker.migrate`, then restart the workers."),
}


def _database_of(health: WorkerHealth) -> Finding:
    state, remedy = _DATABASE[health.database]
    found = f"as the worker sees it: {health.database}. {health.detail}".strip()
    return Finding(check="database", state=State(state), found=found, remedy=remedy)
