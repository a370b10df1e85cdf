"""Write the copies of recent results and counts that clients read instead of asking a worker.

What is written belongs to a generation, which must be read before the data that is copied. See
`producer.contract.cached`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

from redis.client import Pipeline
from redis.exceptions import NoPermissionError, RedisError

from producer.contract.batches import BatchState, BatchStatus
from producer.contract.cached import (
    BATCH_SECONDS,
    BELIEVED_SECONDS,
    CLOSED,
    MAX_COPY,
    RESULT_SECONDS,
    BatchDetails,
    is_pending,
    pack_batch,
    pack_request,
)
from producer.contract.keys import Keys
from producer.contract.marks import AgedMark
from producer.contract.redis_connection import connect_redis
from producer.schemas import RequestState, RequestStatus, StudentEnrollmentResponse

log = logging.getLogger(__name__)

CLOSED_SECONDS: Final = 3600
"""Seconds after which copies count again although the command that excluded them never ended."""

MAX_WRITTEN: Final = 32 * 1024 * 1024
"""The most bytes of copies that one process writes in `RESULT_SECONDS`."""

SMALL_COPY: Final = 2048
"""Bytes of a copy; larger ones may use only half of `MAX_WRITTEN`."""

_STORE_BATCH = files("worker.messaging").joinpath("cached.lua").read_text(encoding="ascii")


_NOT_COPIED: Final = (BatchState.UNKNOWN, BatchState.HELD)
"""Of unknown ids, any client could make as many as it likes. An operator decides about what is held
on the database alone, and a wait that begins afterwards must not end with a copy from before.
"""


class CachedAnswers:
    """The copies in Redis. It connects at first use; its connection pool notices a fork.

    While Redis fails, or if its rules do not allow copies, nothing is copied, and work goes on.
    """

    def __init__(self, result_backend_url: str, keys: Keys) -> None:
        self._keys = keys
        self._redis = connect_redis(result_backend_url, socket_timeout=5, socket_connect_timeout=3)
        self._written = 0
        self._written_since = float("-inf")

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()

    def generation(self) -> str | None:
        """Return the present generation, or None if nothing may be copied now."""
        try:
            return self.generation_in(self._redis.get(self._keys.generation))
        except RedisError as error:
            _warn_unless_forbidden(error)
            return None

    def add_look(self, pipeline: Pipeline) -> None:
        """Add to a pipeline the command whose reply `generation_in` reads."""
        pipeline.get(self._keys.generation)

    def generation_in(self, reply: Any) -> str | None:
        """Return the generation in a reply to `add_look`; begin the first one if there is none."""
        if isinstance(reply, bytes):
            generation = reply.decode(errors="replace")
            return None if generation == CLOSED else generation
        if reply is None:
            with contextlib.suppress(RedisError):
                # What was read before the generation began must not be copied into it.
                self._redis.set(self._keys.generation, uuid4().hex, nx=True)
        return None

    def begin_generation(self) -> None:
        """Let no earlier copy count any more. If Redis fails, this only logs a warning."""
        try:
            self._redis.set(self._keys.generation, uuid4().hex)
        except RedisError as error:
            _warn_unless_forbidden(error)

    @contextlib.contextmanager
    def closed(self) -> Iterator[Callable[[], None]]:
        """Let no copy count while stored results change, nor an earlier one afterwards.

        Call the yielded function again and again while this lasts. Both raise RedisError: without
        Redis, results must not change, because clients would read the copies of earlier ones.
        """

        def close() -> None:
            self._redis.set(self._keys.generation, CLOSED, ex=CLOSED_SECONDS)

        close()
        try:
            yield close
        finally:
            # If this fails, the closed state expires, and a worker begins a generation.
            self.begin_generation()

    def add_results(
        self,
        pipeline: Pipeline,
        generation: str | None,
        results: Iterable[StudentEnrollmentResponse],
    ) -> None:
        """Add to a pipeline the copies of results that are committed."""
        for result in results if generation else ():
            status = RequestStatus.model_construct(
                request_id=result.request_id, state=RequestState.DONE, result=result, advice=None
            )
            self._add(pipeline, generation or "", status)

    def keep_results(
        self,
        generation: str | None,
        results: Iterable[StudentEnrollmentResponse],
        forget: Iterable[str] = (),
    ) -> None:
        """Copy results that are committed, and remove the keys of marks, in one round trip."""

        def add(pipeline: Pipeline) -> None:
            self.add_results(pipeline, generation, results)
            if keys := list(forget):
                pipeline.unlink(*keys)

        self._write(add)

    def keep_requests(self, generation: str | None, statuses: Iterable[RequestStatus]) -> None:
        """Copy the answer to a lookup: results, and that a request is still pending."""

        def add(pipeline: Pipeline) -> None:
            for status in statuses:
                # The results of lines of batches are too many to be copied.
                if status.result is not None and status.result.batch_id is None:
                    self._add(pipeline, generation or "", status)
                elif is_pending(status):
                    # It never replaces a result that was decided in the meantime.
                    key = self._keys.cached_request(status.request_id)
                    copy = pack_request(generation or "", status)
                    pipeline.set(key, copy, ex=BELIEVED_SECONDS, nx=True)

        if generation is not None:
            self._write(add)

    def keep_batches(
        self,
        generation: str | None,
        statuses: Iterable[BatchStatus],
        marks: Mapping[str, AgedMark],
        *,
        refusals: bool,
        seconds_ago: float,
    ) -> None:
        """Copy the answer to a lookup of batches, for which the database was read some time ago."""
        milliseconds = round(1000 * (BATCH_SECONDS - seconds_ago))

        def add(pipeline: Pipeline) -> None:
            for status in statuses:
                if status.state in _NOT_COPIED:
                    continue
                mark = marks.get(status.batch_id)
                applied = status.chunks_applied
                details = BatchDetails(applied, mark.digest if mark else 0, refusals)
                copy = pack_batch(generation or "", details, status)
                key = self._keys.cached_batch(status.batch_id)
                if self._may_write(copy):
                    values = (generation or "", applied, copy, milliseconds)
                    pipeline.eval(_STORE_BATCH, 1, key, *values)

        if generation is not None and milliseconds > 0:
            self._write(add)

    def _add(self, pipeline: Pipeline, generation: str, status: RequestStatus) -> None:
        copy = pack_request(generation, status)
        if self._may_write(copy):
            pipeline.set(self._keys.cached_request(status.request_id), copy, ex=RESULT_SECONDS)

    def _may_write(self, copy: str) -> bool:
        """Return whether a copy fits; the copies of a process must not fill Redis."""
        now = time.monotonic()
        if now - self._written_since > RESULT_SECONDS:
            self._written, self._written_since = 0, now
        size = len(copy.encode())
        # Large copies leave room for small ones, which nearly all are.
        room = MAX_WRITTEN if size <= SMALL_COPY else MAX_WRITTEN // 2
        if size > MAX_COPY or self._written + size > room:
            return False
        self._written += size
        return True

    def _write(self, add: Callable[[Pipeline], None]) -> None:
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                add(pipeline)
                pipeline.execute()
        except RedisError as error:
            _warn_unless_forbidden(error)


def _warn_unless_forbidden(error: RedisError) -> None:
    # The Redis rules of an older version know no copies; `enroll doctor` names them.
    if not isinstance(error, NoPermissionError):
        log.warning("Redis did not store copies of results, so polls ask workers: %s", error)
