"""Leave marks with the moments of requests and batches, which the clock of Redis gives."""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from redis.exceptions import ResponseError

from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, MAX_MARK, SubmissionMark

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(microseconds=1)

REFUSED_SECONDS: Final = 60.0
"""Seconds after which a client that may not read the clock or the marks tries again."""


class Marks:
    """The marks that one client leaves; threads may share it. The methods raise RedisError.

    What is submitted later has a later moment, even if the clock of Redis is set back. What is
    submitted again under its id keeps the moment in its mark. If the user of the connection may not
    read the clock, nothing gets a moment, and a worker gives one.
    """

    def __init__(self, redis: Any, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._lock = threading.Lock()
        self._last = _EPOCH
        self._refused_until = float("-inf")

    def leave_on_requests(
        self, request_ids: Sequence[str], known_ids: Collection[str]
    ) -> Mapping[str, datetime]:
        """Mark requests as `queued`, before they are published; return their moments.

        `known_ids` are those that may have been submitted before.
        """
        moments = self._date([*request_ids], {i: self._keys.request(i) for i in known_ids})
        with self._redis.pipeline(transaction=False) as pipeline:
            for request_id in request_ids:
                mark = SubmissionMark(moment=moments.get(request_id))
                pipeline.set(
                    self._keys.request(request_id), mark.model_dump_json(), ex=MARK_SECONDS
                )
            pipeline.execute()
        return moments

    def new_moment(self) -> datetime | None:
        """Return a new moment; None without the right to read the clock."""
        return self._date(["new"], {}).get("new")

    def moment_of_batch(self, batch_id: str, first_chunk: int) -> datetime | None:
        """Return the moment in the mark of a batch with this first chunk; None if there is none.

        A mark that somebody else has left under this id says nothing about this submission.
        """
        try:
            text = self._redis.getrange(self._keys.batch(batch_id), 0, MAX_MARK)
        except ResponseError:
            return None  # Older rules of a Redis user do not allow it.
        mark = _mark_in(text)
        return mark.moment if mark is not None and mark.first_chunk == first_chunk else None

    def leave_on_batch(self, batch_id: str, mark: SubmissionMark) -> None:
        """Write the mark of a batch, before the chunk that it counts last is published."""
        self._redis.set(self._keys.batch(batch_id), mark.model_dump_json(), ex=MARK_SECONDS)

    def claim_batch(self, batch_id: str, mark: SubmissionMark) -> bool:
        """Write the mark of a batch unless there is one; return whether it was written."""
        key, text = self._keys.batch(batch_id), mark.model_dump_json()
        return bool(self._redis.set(key, text, ex=MARK_SECONDS, nx=True))

    def _date(self, ids: Sequence[str], marks: Mapping[str, str]) -> dict[str, datetime]:
        """Return the moment of each id: that in its mark, if it has one, or a new one."""
        keys = list(marks.values())
        with self._redis.pipeline(transaction=False) as pipeline:
            if may_look := time.monotonic() >= self._refused_until:
                pipeline.time()
            for key in keys:
                pipeline.getrange(key, 0, MAX_MARK)
            replies = pipeline.execute(raise_on_error=False) if may_look or keys else []
        clock = replies.pop(0) if may_look else None
        dated = {}
        for identity, text in zip(marks, replies, strict=True):
            # It may be the mark of an older version, or no mark at all.
            mark = _mark_in(text) if isinstance(text, bytes) else None
            if mark is not None and mark.moment is not None:
                dated[identity] = mark.moment
        if isinstance(clock, ResponseError):
            # The user may not read the clock, or a proxy does not know the command.
            self._refused_until = time.monotonic() + REFUSED_SECONDS
        if isinstance(clock, Exception) and not isinstance(clock, ResponseError):
            raise clock
        if not isinstance(clock, tuple | list):
            return dated
        seconds, microseconds = clock
        now = _EPOCH + timedelta(seconds=seconds, microseconds=microseconds)
        # A mark does not last longer, so an older moment was not in it when it was left.
        oldest = now - timedelta(seconds=MARK_SECONDS)
        dated = {identity: moment for identity, moment in dated.items() if moment > oldest}
        return dated | self._new([i for i in ids if i not in dated], now)

    def _new(self, ids: Sequence[str], now: datetime) -> dict[str, datetime]:
        with self._lock:
            first = max(now, self._last + _STEP)
            dated = {identity: first + n * _STEP for n, identity in enumerate(ids)}
            self._last = max(self._last, *dated.values()) if dated else self._last
        return dated


def _mark_in(text: bytes) -> SubmissionMark | None:
    """Return the mark in a text; None if there is none that can be read."""
    if not text or len(text) > MAX_MARK:
        return None
    try:
        return SubmissionMark.model_validate_json(text, extra="ignore")
    except ValidationError:
        return None
