"""Check the Redis that is the broker: whether it answers, loses data or is full."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from producer.commands.checks.clock import clock
from producer.commands.checks.queues import check_queues
from producer.contract.findings import Finding, ok, warning, wrong
from producer.contract.identity import REGISTER_FIELD, DatabaseIdentity
from producer.contract.keys import KNOWS_DROPS, Keys
from producer.contract.redis_connection import connect_redis
from producer.fields import MAX_MESSAGE
from producer.publishing.failures import explain_failure

OLD_SERVER = 7
"""The oldest major version of Redis that has all the commands that the worker needs."""
FULL = 0.8
"""The fraction of Redis's maxmemory at which doctor warns."""


MAX_NAMED = 5
"""The most workers that a finding names."""

LARGEST_STRING = 32 * 2**20
"""What proto-max-bulk-len should be, in bytes; clients and workers write nothing larger."""


def check_redis(redis: Any, shown_url: str, keys: Keys) -> Iterator[Finding]:
    """Check the server, and what waits in the queues; stop early if it cannot be asked."""
    started = time.perf_counter()
    try:
        redis.ping()
    except RedisError as error:
        failure = explain_failure(error)
        problem = f"{shown_url} does not answer: {failure.problem}"
        yield wrong("broker", problem, failure.remedy)
        return
    answers = f"answers in {(time.perf_counter() - started) * 1000:.1f} ms"
    yield from _moments(redis, keys)
    try:
        info = redis.info("everything")
    except NoPermissionError:
        yield ok("broker", f"{shown_url} {answers}")
        yield warning(
            "persistence",
            "unknown, because this Redis user is not allowed to run INFO",
            "To check whether Redis can lose data, run doctor as the Redis user operator"
            " (docs/access.md).",
        )
        return
    except ResponseError as error:
        yield wrong(
            "broker",
            f"{shown_url} refuses the command INFO: {error}",
            "Fix what Redis reports, then run doctor again; it needs INFO to check Redis.",
        )
        return
    yield _server(info, f"{shown_url} {answers}")
    if info.get("redis_mode") == "sentinel":
        return
    yield from (_persistence(info), _eviction(info), _memory(info))
    yield from _largest_message(redis)
    with suppress(NoPermissionError):  # `_moments` has reported it.
        seconds, microseconds = redis.time()
        yield from clock("the broker's", seconds + microseconds / 1e6)
    yield from check_queues(redis, keys)
    yield from _versions_of_workers(redis, keys)


def _moments(redis: Any, keys: Keys) -> Iterator[Finding]:
    """Check that this user can give requests their moments."""
    try:
        redis.time()
        redis.getrange(keys.request("doctor"), 0, 0)
    except NoPermissionError:
        yield warning(
            "moments",
            "this Redis user may not read the clock (TIME) or its marks (GETRANGE), so its requests"
            " count when a worker takes them, not when they were submitted",
            "Give it the rules in docs/redis-acl.conf.",
        )
    except RedisError:
        pass  # The checks that follow report it.


def _server(info: dict[str, Any], where: str) -> Finding:
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
    server = f"{where}: {name}"
    if info.get("redis_mode") == "sentinel":
        remedy = "Set ENROLL_BROKER_URL to sentinel://HOST:PORT/0?master_name=NAME."
        return wrong("broker", f"{server}, a sentinel", remedy)
    if info.get("cluster_enabled"):
        remedy = "Use a single server; the queues cannot be spread over a cluster."
        return wrong("broker", f"{server}, a cluster", remedy)
    if info.get("role") != "master":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        remedy = f"Point ENROLL_BROKER_URL, or the name in it, at its master, {master}."
        return wrong("broker", f"{server}, a replica", remedy)
    if int(str(info["redis_version"]).split(".")[0]) < OLD_SERVER:
        return wrong("broker", f"{server}, which is too old", "Upgrade to Redis 7 or Valkey.")
    return ok("broker", server)


def _persistence(info: dict[str, Any]) -> Finding:
    if not info.get("aof_enabled"):
        return wrong(
            "persistence",
            "a restart of Redis loses the queued messages (appendonly no)",
            "Run CONFIG SET appendonly yes, and set it in Redis's configuration file, too.",
        )
    for part in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(part, "ok") != "ok":
            remedy = (
                "Read the lines with `AOF` or `append only` in Redis's log, and free space on its"
                " disk if it is full."
            )
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
        harm = f"{policy_text}: a full Redis deletes result keys and marks"
        return warning("eviction", harm, remedy)
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
            "Raise maxmemory. Until then workers can drain the queues, but clients cannot submit."
        )
        return wrong("memory", f"{usage}: Redis is full", remedy)
    remedy = "Start more workers, raise maxmemory, or submit less at once."
    return warning("memory", usage, remedy)


def _largest_message(redis: Any) -> Iterator[Finding]:
    """Check that a client cannot push a message that is larger than workers can take."""
    try:
        limit = int(redis.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    except (NoPermissionError, ResponseError, KeyError):
        return  # Managed services hide it, and so does the user producer.
    limit_text = f"Redis accepts strings of up to {limit / 2**20:,.0f} MiB (proto-max-bulk-len)"
    remedy = (
        f"Run CONFIG SET proto-max-bulk-len {LARGEST_STRING}, and set the same in Redis's"
        " configuration file."
    )
    if limit < MAX_MESSAGE:
        yield wrong("message size", f"{limit_text}, less than a chunk may need", remedy)
    elif limit > LARGEST_STRING:
        harm = f"{limit_text}, so a single message can fill Redis's memory"
        yield warning("message size", harm, remedy)
    else:
        yield ok("message size", limit_text)


def _versions_of_workers(redis: Any, keys: Keys) -> Iterator[Finding]:
    """Name the workers that know no moments, or no drops, if this user may read who is alive."""
    try:
        takers: set[bytes] = redis.smembers(keys.takers)
        instances = sorted({taker.decode(errors="replace").partition("/")[0] for taker in takers})
        texts = redis.mget([keys.alive(i) for i in instances]) if instances else []
    except RedisError:
        return
    alive = {i: text for i, text in zip(instances, texts, strict=True) if text is not None}
    if not alive:
        return
    old = [instance for instance, text in alive.items() if text == b"1"]
    no_drops = [
        i
        for i, text in alive.items()
        if KNOWS_DROPS not in text.decode(errors="replace").split(" ")[2:]
    ]
    if not no_drops:
        known = Counter(text.decode(errors="replace").partition(" ")[0] for text in alive.values())
        counts = ", ".join(f"{count} of version {version}" for version, count in known.items())
        yield ok("workers", f"{len(alive)} alive: {counts}")
        return
    named = old or no_drops
    names = ", ".join(instance[:8] for instance in named[:MAX_NAMED])
    names += ", …" if len(named) > MAX_NAMED else ""
    lack, harm = "drops", "they refuse drops, and may enroll a student who was dropped later"
    if old:
        lack, harm = "moments", "what they decide counts in the order of its arrival"
    yield warning(
        "workers",
        f"{len(named)} of {len(alive)} workers run a version without {lack} ({names}): {harm}",
        "Stop these workers and start the present version. The label `worker` in the metrics of a"
        " worker begins with this name.",
    )


def registered_database(url: str, keys: Keys) -> DatabaseIdentity | None:
    """Return the registered database of the workers; None if there is none or it is unreadable."""
    try:
        with connect_redis(url, socket_timeout=5, socket_connect_timeout=3) as redis:
            text: Any = redis.hget(keys.database, REGISTER_FIELD)
        return None if text is None else DatabaseIdentity.model_validate_json(text, extra="ignore")
    except (RedisError, ValidationError):
        return None
