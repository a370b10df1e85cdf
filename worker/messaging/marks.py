"""Read and write the marks that distinguish `queued` and `running` from `unknown`."""

import logging
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from redis.client import Pipeline
from redis.exceptions import NoPermissionError, RedisError

from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, MAX_MARK, AgedMark, MarkState, SubmissionMark
from producer.contract.redis_connection import connect_redis
from producer.fields import show_moment

log = logging.getLogger(__name__)

OUTAGE_SECONDS = 30
"""How long the reason why work waits is stored; each attempt that fails renews it."""

WARNING_PAUSE = 30.0
"""Seconds between two warnings about marks that cannot be read."""

_RUNNING = SubmissionMark(state=MarkState.RUNNING).model_dump_json()


class SubmissionMarks:
    """The marks in Redis. It connects at first use; its connection pool notices a fork."""

    def __init__(self, result_backend_url: str, keys: Keys) -> None:
        self.keys = keys
        """The names of the marks."""
        self._redis = connect_redis(result_backend_url, socket_timeout=5, socket_connect_timeout=3)
        self._warned_at = float("-inf")

    def of_requests(self, request_ids: Sequence[str]) -> dict[str, AgedMark]:
        """Return the marks of requests, by id. Raises RedisError: a failure is not `unknown`."""
        return self._find(request_ids, self.keys.request)

    def of_batches(self, batch_ids: Sequence[str]) -> dict[str, AgedMark]:
        """Return the marks of batches, by id. Raises RedisError: a failure is not `unknown`."""
        return self._find(batch_ids, self.keys.batch)

    def _find(self, identities: Sequence[str], key: Callable[[str], str]) -> dict[str, AgedMark]:
        unique = list(dict.fromkeys(identities))
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in map(key, unique):
                # One byte more than a mark may have, to notice one that is too long.
                pipeline.getrange(name, 0, MAX_MARK)
                pipeline.pttl(name)
            replies = pipeline.execute()
        marks = {}
        unreadable = []
        for identity, text, ttl in zip(unique, replies[::2], replies[1::2], strict=True):
            try:
                if len(text) > MAX_MARK:
                    unreadable.append(identity)
                elif text:
                    # The age comes from the TTL, so that no clocks need to agree.
                    age = max(0.0, MARK_SECONDS - ttl / 1000)
                    # A newer submitter may write more fields.
                    mark = SubmissionMark.model_validate_json(text, extra="ignore")
                    marks[identity] = AgedMark(mark, age, zlib.crc32(text))
            except ValidationError:
                unreadable.append(identity)
        if unreadable and time.monotonic() - self._warned_at > WARNING_PAUSE:
            self._warned_at = time.monotonic()
            log.warning(
                "%s of %s marks are unreadable or too long, and are ignored, such as that of %r",
                *(len(unreadable), len(unique), unreadable[0]),
            )
        return marks

    def note_outage(self, sentence: str) -> None:
        """Store why work waits, in the database's words, for `OUTAGE_SECONDS`."""
        try:
            self._redis.set(self.keys.outage, sentence, ex=OUTAGE_SECONDS)
        except RedisError as error:
            log.warning(
                "Redis did not store why work waits, so `enroll status` cannot give the reason: %s",
                error,
            )

    def forget_outage(self) -> None:
        """Remove the reason why work waits, because work succeeded. If Redis fails, only warn."""
        try:
            self._redis.unlink(self.keys.outage)
        except RedisError as error:
            log.warning("Redis did not remove the reason of an outage; it expires soon: %s", error)

    def outage(self) -> str | None:
        """Return why work waits; None if it does not, or if that is unknown. Raises RedisError.

        The Redis rules of an older version do not let the worker read this; then it is unknown.
        """
        try:
            sentence: Any = self._redis.get(self.keys.outage)
        except NoPermissionError:
            return None
        return None if sentence is None else sentence.decode(errors="replace")

    def run(self, add: Callable[[Pipeline], None]) -> Sequence[Any]:
        """Do what `add` adds to a pipeline, such as `add_running`; return the replies.

        Each may be an error. If Redis fails, this only logs a warning, and there are no replies.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                add(pipeline)
                replies: list[Any] = pipeline.execute(raise_on_error=False)
            if isinstance(replies[0], Exception):
                raise replies[0]
        except RedisError as error:
            log.warning("Redis did not mark requests as running: %s", error)
            return []
        return replies

    def add_running(self, pipeline: Pipeline, moments: Mapping[str, datetime | None]) -> None:
        """Add to a pipeline the marks of requests that run, by id, with the moment of each.

        The pipeline must lead to the Redis with the marks.
        """
        for request_id, moment in moments.items():
            text = _RUNNING
            if moment is not None:
                # As the model would write it, without what has its default value; but quickly.
                text = f'{{"state":"{MarkState.RUNNING}","moment":"{show_moment(moment)}"}}'
            pipeline.set(self.keys.request(request_id), text, ex=MARK_SECONDS)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove marks by their keys. If Redis fails, this only logs a warning."""
        try:
            self._redis.unlink(*keys)
        except RedisError as error:
            log.warning("Redis did not remove the marks of requests; they expire later: %s", error)
