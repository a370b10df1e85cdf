"""Check a set-up for `enroll doctor`: find what is wrong, as seen from here, and what to do.

The checks change nothing; they only send one lookup to a worker, as any submitter may. Checks of
the database itself come from the entry points `enroll.checks`.
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
"""The oldest major version of Redis that has all the commands that the worker needs."""
FULL = 0.8
"""The fraction of Redis's maxmemory from which on its use is a warning."""
WAITING_LONG = {Queue.ENROLLMENTS: 60.0, Queue.LOOKUPS: 60.0, Queue.BATCHES: 900.0}
"""Seconds after which a waiting message is a warning, as in the alerts of docs/operations."""
UNNAMED = "celery"
"""The list into which Celery clients put messages without a queue name."""
CLOCKS_APART = 5.0
"""Seconds by which clocks may differ; lookups expire by the clock."""


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    """Nothing needs to be done."""
    WARNING = "warning"
    """The system works, but may soon have a problem."""
    WRONG = "wrong"
    """Something does not work, or will lose data when a server fails."""


class Finding(BaseModel):
    """The result of one check, with a remedy unless all is well."""

    model_config = ConfigDict(frozen=True)

    check: str
    state: State
    found: str
    remedy: str = ""


def ok(check: str, observation: str) -> Finding:
    """Return a finding with nothing to do."""
    return Finding(check=check, state=State.OK, found=observation)


def warning(check: str, observation: str, remedy: str) -> Finding:
    """Return a finding that may soon be a problem."""
    return Finding(check=check, state=State.WARNING, found=observation, remedy=remedy)


def wrong(check: str, observation: str, remedy: str) -> Finding:
    """Return a finding that is a problem now, or will lose data when a server fails."""
    return Finding(check=check, state=State.WRONG, found=observation, remedy=remedy)


def examine(client: EnrollmentClient, broker_url: str, timeout: float) -> Iterator[Finding]:
    """Check everything that can be seen from here, in the order in which to fix it."""
    broker_works = True
    if broker_url.startswith(REDIS):
        with Redis.from_url(
            require_certificate_check(broker_url),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        ) as redis:
            for finding in _redis(redis, client.shown_url):
                # A full broker does not accept a lookup, so the worker cannot be asked.
                if finding.check in ("broker", "memory") and finding.state is State.WRONG:
                    broker_works = False
                yield finding
    for entry_point in entry_points(group="enroll.checks"):
        yield from (Finding(**fields) for fields in _installed_check(entry_point))
    if broker_works:
        yield from _worker(client)


def _installed_check(entry_point: Any) -> Iterable[dict[str, str]]:
    try:
        check: Callable[[], Iterable[dict[str, str]]] = entry_point.load()
    except ImportError:
        return ()  # A submitter's installation has no database driver.
    return check()


def _redis(redis: Any, shown_url: str) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        redis.ping()
    except RedisError as error:
        yield wrong(
            "broker",
            f"{shown_url} does not answer: {error}",
            "Start the broker, or correct the address, user and password in ENROLL_BROKER_URL.",
        )
        return
    answers = f"answers in {(time.perf_counter() - started) * 1000:.1f} ms"
    try:
        info = redis.info("everything")
    except NoPermissionError:
        yield ok("broker", f"{shown_url} {answers}")
        yield warning(
            "persistence",
            "unknown, because this Redis user may not run INFO",
            "To check whether Redis can lose data, run doctor as the Redis user operator"
            " (docs/access.md).",
        )
        return
    except ResponseError as error:
        yield wrong(
            "broker",
            f"{shown_url} refuses commands: {error}",
            "Wait and try again, or ask the operator of this Redis.",
        )
        return
    yield _server(info, f"{shown_url} {answers}")
    yield from (_persistence(info), _eviction(info), _memory(info))
    seconds, microseconds = redis.time()
    yield from _clock("the broker's", seconds + microseconds / 1e6)
    yield from _queues(redis)


def _server(info: dict[str, Any], where: str) -> Finding:
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    server = f"{where}: {name}"
    if info.get("cluster_enabled"):
        remedy = "Use a single server; the queues cannot be spread over a cluster."
        return wrong("broker", f"{server}, a cluster", remedy)
    if info.get("role") != "master":
        return wrong("broker", f"{server}, a replica", "Point ENROLL_BROKER_URL at the primary.")
    if int(str(info["redis_version"]).split(".")[0]) < OLD_SERVER:
        return wrong("broker", f"{server}, which is too old", "Upgrade to Redis 7 or Valkey.")
    return ok("broker", server)


def _persistence(info: dict[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        return wrong(
            "persistence",
            "a restart of Redis loses the queued messages (appendonly no)",
            "Run CONFIG SET appendonly yes, and set the same in Redis's configuration file.",
        )
    for part in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(part, "ok") != "ok":
            remedy = "Check Redis's log, and the space on its disk."
            failure = f"Redis failed to write its append-only file ({part} is {info[part]})"
            return wrong("persistence", failure, remedy)
    return ok(
        "persistence",
        "appendonly yes: a restart of Redis loses nothing, a power cut at most the last second",
    )


def _eviction(info: dict[str, Any]) -> Finding:
    policy, limit = str(info.get("maxmemory_policy")), int(info.get("maxmemory", 0))
    policy_text = f"maxmemory-policy {policy}"
    remedy = (
        "Run CONFIG SET maxmemory-policy noeviction, and set the same in Redis's configuration"
        " file."
    )
    if policy == "noeviction":
        return ok("eviction", f"{policy_text}: a full Redis refuses writes, but deletes nothing")
    if not policy.startswith("allkeys"):
        return warning("eviction", f"{policy_text}: a full Redis deletes results", remedy)
    if not limit:
        return warning(
            "eviction", f"{policy_text}: harmless only while maxmemory is not set", remedy
        )
    return wrong("eviction", f"{policy_text}: a full Redis deletes the queues", remedy)


def _memory(info: dict[str, Any]) -> Finding:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    usage = f"{used / 2**20:,.0f} MiB used"
    if not limit:
        total = int(info.get("total_system_memory", 0))
        machine = f"; the machine has {total / 2**30:,.1f} GiB" if total else ""
        return ok("memory", f"{usage}, no maxmemory{machine}")
    usage += f" of {limit / 2**20:,.0f} MiB"
    if used < FULL * limit:
        return ok("memory", usage)
    if used >= limit and info.get("maxmemory_policy") == "noeviction":
        remedy = (
            "Raise maxmemory; until then workers can empty the queues, but clients cannot submit."
        )
        return wrong("memory", f"{usage}: Redis is full", remedy)
    remedy = "Start more workers, raise maxmemory, or submit less at once."
    return warning("memory", usage, remedy)


def _queues(redis: Any) -> Iterator[Finding]:
    for queue in Queue:
        count, age = redis.llen(queue.value), _age(redis.lindex(queue.value, -1))
        waiting = f"messages waiting in {queue.value}: {count:,}"
        if age is None:
            yield ok("queue", waiting)
        elif age < WAITING_LONG[queue]:
            yield ok("queue", f"{waiting}, the oldest for {age:,.0f} s")
        else:
            remedy = "Start more workers, and check that the running ones serve this queue (-Q)."
            yield warning("queue", f"{waiting}, the oldest for {age / 60:,.0f} min", remedy)
    # kombu puts messages with a priority into separate lists, which no worker reads.
    priority_lists = [f"{queue.value}\x06\x16{step}" for queue in Queue for step in (3, 6, 9)]
    for name in (*priority_lists, UNNAMED):
        yield from _unread(redis, name)


def _unread(redis: Any, name: str) -> Iterator[Finding]:
    count = redis.llen(name)
    if not count:
        return
    queue = name.partition("\x06")[0]
    if name == UNNAMED:
        messages, remedy = "messages without a queue name", "Publish to the queue of the task"
    else:
        messages, remedy = f"messages for {queue} with a priority", "Publish without a priority"
    quoted = "'" + name.encode("unicode_escape").decode() + "'"
    yield warning(
        "queue",
        f"{messages}: {count:,}; no worker reads them",
        f"{remedy}, and submit these messages again. redis-cli LRANGE ${quoted} 0 -1 prints them,"
        f" redis-cli DEL ${quoted} removes them.",
    )


def _age(message: bytes | None) -> float | None:
    """Return the seconds since a message was submitted, or None if it has no timestamp."""
    try:
        submitted_at = json.loads(message or b"{}")["properties"]["timestamp"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return max(0.0, time.time() - submitted_at) if type(submitted_at) in (int, float) else None


def _worker(client: EnrollmentClient) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        health = client.health()
    except NoWorkerAnswered as error:
        # The error's own advice is left out, because the remedy has more.
        silence = str(error).partition(" s. ")[0] + " s"
        remedy = "Start a worker: celery -A worker worker; its queues (-Q) must include lookups."
        yield wrong("worker", silence, remedy)
        return
    except BrokerUnavailable as error:
        remedy = "Start the broker, or correct ENROLL_BROKER_URL."
        if "permission" in str(error).lower():
            remedy = "Connect as the Redis user operator or producer (docs/access.md)."
        yield wrong("broker", str(error), remedy)
        return
    except EnrollmentError as error:
        remedy = "Install the same version here and on the workers."
        yield wrong("worker", str(error), remedy)
        return
    yield ok("worker", f"answered in {(time.perf_counter() - started) * 1000:.0f} ms")
    yield _versions(health)
    yield from _clock("the worker's", health.now.timestamp())
    yield _database_of(health)


def _versions(health: WorkerHealth) -> Finding:
    own_version = version("enrollment-worker")
    versions = f"{own_version} here, {health.version} on the worker that answered"
    if own_version == health.version:
        return ok("versions", versions)
    remedy = "Upgrade the database first, then the workers, then the clients."
    return warning("versions", versions, remedy)


def _clock(whose: str, seconds: float) -> Iterator[Finding]:
    difference = abs(time.time() - seconds)
    comparison = f"{whose} clock and this machine's differ by {difference:,.0f} s"
    if difference <= CLOCKS_APART:
        yield ok("clock", comparison)
    else:
        here = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC here"
        remedy = "Synchronize both clocks with NTP, because lookups expire at a fixed time."
        yield wrong("clock", f"{comparison} (it is {here})", remedy)


_DATABASE: dict[DatabaseState, tuple[Literal["ok", "wrong"], str]] = {
    DatabaseState.READY: ("ok", ""),
    DatabaseState.AWAY: (
        "wrong",
        "Start the database, or correct ENROLL_DATABASE_URL of the workers.",
    ),
    DatabaseState.OUTDATED: (
        "wrong",
        "Run `python -m worker.migrate`, or upgrade the workers if the database is newer.",
    ),
}


def _database_of(health: WorkerHealth) -> Finding:
    state, remedy = _DATABASE[health.database]
    report = f"as the worker sees it: {health.database.shown}. {health.detail}".strip()
    return Finding(check="database", state=State(state), found=report, remedy=remedy)
