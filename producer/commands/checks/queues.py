"""Check the queues: how long messages wait, and whether some lie where no worker reads them."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from producer.contract.findings import Finding, ok, warning
from producer.contract.keys import Keys, count_waiting
from producer.contract.routing import Queue
from producer.fields import MAX_MESSAGE

WAITING_LONG = {
    Queue.ENROLLMENTS: 60.0,
    Queue.LOOKUPS: 60.0,
    Queue.DECISIONS: 60.0,
    Queue.BATCHES: 900.0,
}
"""Seconds after which a waiting message is a warning, as in the alerts of docs/operations."""
UNNAMED = "celery"
"""The list into which Celery clients put messages without a queue name."""

_OLDEST = """
local message = redis.call('LINDEX', KEYS[1], -1)
return message and #message <= tonumber(ARGV[1]) and message
"""
"""The Lua script that reads the oldest message of a queue, unless it is too large to be one."""


def check_queues(redis: Any, keys: Keys) -> Iterator[Finding]:
    """Check what waits in the queues, and what was put where no worker looks."""
    try:
        yield from _check(redis, keys)
    except NoPermissionError as error:
        yield warning(
            "queue",
            f"this user may not look at all queues ({error})",
            "Connect as the user operator of docs/redis-acl.conf.",
        )


def _check(redis: Any, keys: Keys) -> Iterator[Finding]:
    for queue in Queue:
        count, age = _waiting(redis, keys.waiting(queue))
        waiting = f"messages waiting in {keys.queue(queue)}: {count:,}"
        if age is None:
            yield ok("queue", waiting)
        elif age < WAITING_LONG[queue]:
            yield ok("queue", f"{waiting}, the oldest for {age:,.0f} s")
        else:
            remedy = "Start more workers, and check that the running ones serve this queue (-Q)."
            yield warning("queue", f"{waiting}, the oldest for {age / 60:,.0f} min", remedy)
    for name in keys.waiting(UNNAMED):
        yield from _unread(redis, name)


def _waiting(redis: Any, lists: Sequence[str]) -> tuple[int, float | None]:
    """Return the number of messages in the lists of a queue, and the age of the oldest one."""
    with redis.pipeline(transaction=False) as pipeline:
        for name in lists:
            pipeline.llen(name)
        for name in lists:
            pipeline.eval(_OLDEST, 1, name, MAX_MESSAGE)
        replies = pipeline.execute()
    ages = [age for message in replies[len(lists) :] if (age := _age(message)) is not None]
    return count_waiting(replies[: len(lists)]), max(ages, default=None)


def _unread(redis: Any, name: str) -> Iterator[Finding]:
    count = redis.llen(name)
    if count:
        quoted = "'" + name.encode("unicode_escape").decode() + "'"
        yield warning(
            "queue",
            f"messages without a queue name: {count:,}; no worker reads them",
            "Publish to the queue of the task, and submit these messages again. redis-cli LRANGE"
            f" ${quoted} 0 -1 prints them, redis-cli DEL ${quoted} removes them.",
        )


def _age(message: bytes | None) -> float | None:
    """Return the seconds since a message was submitted, or None if it has no timestamp."""
    try:
        submitted_at = json.loads(message or b"{}")["properties"]["timestamp"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    now = time.time()
    if type(submitted_at) not in (int, float) or not submitted_at > 0:
        return None
    return 0.0 if submitted_at >= now else now - submitted_at
