"""Leave marks with the moments of requests and batches, which the clock of Redis gives."""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from redis.exceptions import ResponseError

from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, MAX_MARK, SubmissionMark
from producer.contract.rosters import from_microseconds, to_microseconds
from producer.publishing.clock import ClockBounds, now

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(microseconds=1)

_QUEUED: Final = SubmissionMark().model_dump_json()

REFUSED_SECONDS: Final = 60.0
"""Seconds after which a client that may not read the clock or the marks tries again."""

BATCH_MOMENT: Final[ContextVar[datetime | None]] = ContextVar("batch_moment", default=None)
"""The moment of the batch that is being published, for what reads its records."""


def moment_of_batch() -> datetime:
    """Return the moment of the batch that is being published; without one, the present time."""
    return BATCH_MOMENT.get() or datetime.now(UTC)


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
        self._clock = ClockBounds()

    def leave_on_requests(
        self, request_ids: Sequence[str], known_ids: Collection[str]
    ) -> Mapping[str, datetime]:
        """Mark requests as `queued`, before they are published; return their moments.

        `known_ids` are those that may have been submitted before, or may be submitted again: their
        marks have their moments. The marks of the others are written in the same round trip in
        which the clock is read, and get their moments from the worker that takes them.
        """
        new_ids = [request_id for request_id in request_ids if request_id not in known_ids]
        moments = self._date(request_ids, {i: self._keys.request(i) for i in known_ids}, new_ids)
        if known_ids:
            with self._redis.pipeline(transaction=False) as pipeline:
                for request_id in known_ids:
                    self._add_mark(pipeline, request_id, moments.get(request_id))
                pipeline.execute()
        return moments

    def _add_mark(self, pipeline: Any, request_id: str, moment: datetime | None = None) -> None:
        text = _QUEUED if moment is None else SubmissionMark(moment=moment).model_dump_json()
        pipeline.set(self._keys.request(request_id), text, ex=MARK_SECONDS)

    def new_moment(self) -> datetime | None:
        """Return a new moment; None without the right to read the clock.

        If the clock was just read, the moment is the latest time that it may show. Before the call
        that needs the moment returns, it must `let_pass` the moment.
        """
        latest = self._clock.latest()
        if latest is not None:
            return self._new(["new"], from_microseconds(latest))["new"]
        return self._date(["new"], {}).get("new")

    def forget_clock(self) -> None:
        """Read the clock before the next moment: it may be that of another server by then."""
        self._clock.forget()

    def let_pass(self, moment: datetime | None) -> None:
        """Wait until the clock has passed a new moment, so that what follows counts later."""
        if moment is not None:
            seconds = self._clock.seconds_until(to_microseconds(moment))
            if seconds:
                time.sleep(seconds)

    def moment_of_batch(self, batch_id: str, first_chunk: int | None) -> datetime | None:
        """Return the moment in the mark of a batch with this first chunk, if it has one.

        A mark that another client has left under this id says nothing about this submission. If
        `first_chunk` is None, the batch was not read yet, and any mark counts.
        """
        try:
            text = self._redis.getrange(self._keys.batch(batch_id), 0, MAX_MARK)
        except ResponseError:
            return None  # Older rules of a Redis user do not allow it.
        mark = _mark_in(text)
        is_own = mark is not None and first_chunk in (None, mark.first_chunk)
        return mark.moment if mark is not None and is_own else None

    def leave_on_batch(self, batch_id: str, mark: SubmissionMark) -> None:
        """Write the mark of a batch, before the chunk that it counts last is published."""
        self._redis.set(self._keys.batch(batch_id), mark.model_dump_json(), ex=MARK_SECONDS)

    def claim_batch(self, batch_id: str, mark: SubmissionMark) -> bool:
        """Write the mark of a batch unless there is one; return whether it was written."""
        key, text = self._keys.batch(batch_id), mark.model_dump_json()
        return bool(self._redis.set(key, text, ex=MARK_SECONDS, nx=True))

    def _date(
        self, ids: Sequence[str], marks: Mapping[str, str], new_ids: Sequence[str] = ()
    ) -> dict[str, datetime]:
        """Return the moment of each id: that in its mark, if it has one, or a new one.

        The marks of requests with new ids are left in the same round trip.
        """
        clock, texts = self._look(list(marks.values()), new_ids)
        # It may be the mark of an older version, or no mark at all.
        found = [_mark_in(text) if isinstance(text, bytes) else None for text in texts]
        dated = {i: m.moment for i, m in zip(marks, found, strict=True) if m and m.moment}
        if clock is None:
            return dated
        # A mark does not last longer, so an older moment was not in it when it was left.
        oldest = clock - timedelta(seconds=MARK_SECONDS)
        dated = {identity: moment for identity, moment in dated.items() if moment > oldest}
        return dated | self._new([i for i in ids if i not in dated], clock)

    def _look(
        self, keys: Sequence[str], new_ids: Sequence[str]
    ) -> tuple[datetime | None, list[Any]]:
        """Leave the marks of new requests; return the time, if it may be read, and other marks.

        An error in place of a mark is not raised.
        """
        may_look = time.monotonic() >= self._refused_until
        asked = now()
        with self._redis.pipeline(transaction=False) as pipeline:
            for request_id in new_ids:
                self._add_mark(pipeline, request_id)
            if may_look:
                pipeline.time()
            for key in keys:
                pipeline.getrange(key, 0, MAX_MARK)
            replies = pipeline.execute(raise_on_error=False) if len(pipeline) else []
        written, replies = replies[: len(new_ids)], replies[len(new_ids) :]
        clock = replies.pop(0) if may_look else None
        if isinstance(clock, ResponseError):
            # The user may not read the clock, or a proxy does not know the command.
            self._refused_until = time.monotonic() + REFUSED_SECONDS
            clock = None
        for reply in (*written, clock):
            if isinstance(reply, Exception):
                raise reply
        if clock is None:
            return None, replies
        seconds, microseconds = clock
        self._clock.note(seconds * 1_000_000 + microseconds, asked, now())
        return _EPOCH + timedelta(seconds=seconds, microseconds=microseconds), replies

    def _new(self, ids: Sequence[str], now: datetime) -> dict[str, datetime]:
        with self._lock:
            first = max(now, self._last + _STEP)
            dated = {identity: first + n * _STEP for n, identity in enumerate(ids)}
            self._last = max(self._last, *dated.values()) if dated else self._last
        return dated


def _mark_in(text: bytes) -> SubmissionMark | None:
    """Return the mark in a text; None if it is unreadable."""
    if not text or len(text) > MAX_MARK:
        return None
    try:
        return SubmissionMark.model_validate_json(text, extra="ignore")
    except ValidationError:
        return None
