"""Look for messages waiting in the broker: a request with neither message nor result is lost.

A message is in one of the queues or in the slot of one worker until its result is committed; Redis
itself moves it from one to the other (`worker.messaging.transport`). So one look at all of them,
before the database is read, shows which messages no longer wait.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from redis.exceptions import RedisError

from producer.contract.keys import Keys
from producer.contract.marks import AgedMark, MarkState
from producer.contract.redis_connection import connect_redis
from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from producer.fields import MAX_MESSAGE
from worker.batches.state import STALLED_SECONDS
from worker.enrollment.incoming import read_request
from worker.messaging.celery_settings import TASK_TIME_LIMIT
from worker.messaging.envelope import MalformedMessage, parse_call
from worker.messaging.quarantine import salvage_ids
from worker.messaging.slots import SLOTS

log = logging.getLogger(__name__)

MAX_MESSAGES = 1_000
MAX_BYTES = 64 * 1024 * 1024
"""The most messages and bytes that a look reads, which takes Redis about 50 ms.

If more waits, or a single message is larger than a worker accepts, no request is called lost.
"""

LOST_SECONDS = 30.0
"""The age at which a mark without a message means that its request is lost. A client publishes
within ten seconds after it left the mark."""

LOOK_SECONDS = 1.0
"""How long a process uses what it saw, so that clients that poll often cost little."""

_LOST_AFTER: Mapping[MarkState, float] = {
    MarkState.QUEUED: LOST_SECONDS,
    # A worker may still be executing a request whose slot was lost with the data of Redis.
    MarkState.RUNNING: TASK_TIME_LIMIT + LOST_SECONDS,
}
_WAITING = files("worker.messaging").joinpath("waiting.lua").read_text(encoding="ascii")


class Waiting(NamedTuple):
    """What waited in the queues, or was held by workers, at one moment."""

    request_ids: frozenset[str]
    chunks: int


class Backlog:
    """The messages in Redis; with another broker (`redis_url` is None) they are unknown.

    It connects at first use; its connection pool notices a fork.
    """

    def __init__(self, redis_url: str | None, keys: Keys) -> None:
        self._redis = redis_url and connect_redis(
            redis_url, socket_timeout=5, socket_connect_timeout=3
        )
        self._keys = keys
        self._seen: Waiting | None = None
        self._seen_at = float("-inf")

    def lost_requests(self, marks: Mapping[str, AgedMark]) -> frozenset[str]:
        """Return which of the requests with these marks have no message any more.

        Read the marks before this call, and the results after it: a request that is returned and
        has no result then was lost.
        """
        old = [i for i, aged in marks.items() if aged.seconds_ago > _LOST_AFTER[aged.mark.state]]
        waiting = self.look() if old else None
        return frozenset() if waiting is None else frozenset(old) - waiting.request_ids

    def waiting_chunks(self, batch_ids: Sequence[str], marks: Mapping[str, AgedMark]) -> int | None:
        """Return how many chunks of any batch wait; None if that is unknown or does not matter.

        It matters if a batch has an old mark, or none. Read the marks before this call, and the
        ledgers after it.
        """
        fresh = {i for i, aged in marks.items() if aged.seconds_ago < STALLED_SECONDS}
        waiting = None if fresh.issuperset(batch_ids) else self.look()
        return None if waiting is None else waiting.chunks

    def look(self) -> Waiting | None:
        """Return what waits; None if that is unknown, for example because it is too much."""
        now = time.monotonic()
        if now - self._seen_at > LOOK_SECONDS:
            self._seen, self._seen_at = self._look(), now
        return self._seen

    def _look(self) -> Waiting | None:
        if not self._redis:
            return None
        lists = [name for queue in Queue for name in self._keys.waiting(queue.value)]
        options = json.dumps(_options(self._keys))
        try:
            found = self._redis.eval(_WAITING, len(lists), *lists, options)
        except RedisError as error:
            log.warning(
                "Redis did not list what waits, so no request is reported as lost: %s", error
            )
            return None
        if found is None:
            return None
        chunks, *messages = found
        request_ids = list(map(_request_id, messages))
        known_ids = frozenset(request_id for request_id in request_ids if request_id is not None)
        # A message whose id cannot be read may be any request, until it is a dead letter.
        return None if None in request_ids else Waiting(known_ids, chunks)


def _options(keys: Keys) -> dict[str, object]:
    """Return the options of the script."""
    lists = {"chunks": Queue.BATCHES, "lookups": Queue.LOOKUPS}
    tasks = {
        name: [task.value for task in TaskName if TASK_QUEUES[task] is queue]
        for name, queue in lists.items()
    }
    return {
        **tasks,
        "requests": [TaskName.ENROLL.value],
        "messages": MAX_MESSAGES,
        "bytes": MAX_BYTES,
        "largest": MAX_MESSAGE,
        "takers": keys.intake("takers"),
        "taken": keys.intake("taken"),
        "slots": SLOTS,
        "queues": [queue.value for queue in Queue],
    }


def _request_id(raw: bytes) -> str | None:
    """Return the id of the request in a message; None if it cannot be read."""
    try:
        call = parse_call(raw, [TaskName.ENROLL.value])
    except MalformedMessage:
        return salvage_ids(raw).request_id
    return read_request(call.task_id, call.args, call.kwargs).request_id
