"""Read what Redis knows of requests and batches, so that most polls need no worker."""

import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from pydantic import ValidationError
from redis.exceptions import NoPermissionError

from producer.contract.batches import BatchStatus
from producer.contract.cached import (
    BATCH_SECONDS,
    BELIEVED_SECONDS,
    CLOSED,
    SeenMark,
    is_pending,
    unpack_batch,
    unpack_request,
)
from producer.contract.keys import Keys
from producer.contract.lookups import MAX_RESULT_ID
from producer.contract.marks import MARK_SECONDS, MAX_MARK, SubmissionMark
from producer.fields import MAX_LOOKUP
from producer.schemas import RequestState, RequestStatus

REFUSED_SECONDS = 60.0
"""Seconds after which a client that may not read the copies tries again."""

MAX_BELIEVED = 10_000
"""The number of requests for which a client remembers since when it has believed their marks."""


class PollingProblem(Enum):
    """The reason why each poll asks a worker."""

    FORBIDDEN = "the user of the connection may not read the copies"
    NO_COPIES = "the workers leave none"


class _Known(NamedTuple):
    """What Redis has under one id."""

    id: str
    copy: bytes
    """The cached copy of its status, or nothing."""
    copy_seconds_left: float
    """The seconds until the copy expires."""
    mark: bytes
    """The text of its mark, or nothing."""
    mark_age: float
    """The age of the mark in seconds; negative if it was written to last longer than it should."""


class KnownStates:
    """The states that Redis knows; threads may share one object. The methods raise RedisError."""

    def __init__(self, redis: Any, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._beliefs = _Beliefs()
        self._refused_until = float("-inf")

    def problem(self) -> PollingProblem | None:
        """Return why each poll asks a worker, if that is so although a worker has answered."""
        try:
            (generation,) = self._redis.mget(self._keys.generation)
        except NoPermissionError:
            return PollingProblem.FORBIDDEN
        return PollingProblem.NO_COPIES if generation is None else None

    def requests(self, request_ids: Sequence[str]) -> dict[str, RequestStatus]:
        """Return the status of each request that Redis knows, by id.

        The state in a mark is believed for ten seconds. After that, a worker has to confirm it,
        and its confirmation is believed for ten seconds, too.
        """
        states = {}
        names = (self._keys.cached_request, self._keys.request)
        for generation, known in self._look(request_ids, *names):
            status = unpack_request(generation, known.id, known.copy) if known.copy else None
            if status is None:
                status = self._beliefs.status(known)
            elif is_pending(status):
                # A worker has confirmed that the request is pending; its mark is newer.
                status = _status_of_mark(known)
            if status is not None:
                states[known.id] = status
        return states

    def batches(self, batch_ids: Sequence[str], *, refusals: bool) -> dict[str, BatchStatus]:
        """Return the status of each batch that Redis knows, by id."""
        states = {}
        names = (self._keys.cached_batch, self._keys.batch)
        for generation, known in self._look(batch_ids, *names):
            if not known.copy:
                continue
            age = BATCH_SECONDS - known.copy_seconds_left
            mark = SeenMark(zlib.crc32(known.mark), known.mark_age)
            status = unpack_batch(generation, known.id, known.copy, age, mark, refusals=refusals)
            if status is not None:
                states[known.id] = status
        return states

    def _look(
        self, ids: Sequence[str], copy_of: Callable[[str], str], mark_of: Callable[[str], str]
    ) -> Iterator[tuple[str, _Known]]:
        """Yield the generation and what is known, for each id, in one round trip per 1,000 ids.

        Yields nothing while no copy counts, while work waits for the database, because a worker
        says why it waits, and if the user of the connection may not read the copies.
        """
        if time.monotonic() < self._refused_until:
            return
        unique = list(dict.fromkeys(filter(_is_possible, ids)))
        for start in range(0, len(unique), MAX_LOOKUP):
            page = unique[start : start + MAX_LOOKUP]
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.mget(self._keys.generation, self._keys.outage, *map(copy_of, page))
                for identity in page:
                    pipeline.pttl(copy_of(identity))
                    # One byte more than a mark may have, to notice one that is too long.
                    pipeline.getrange(mark_of(identity), 0, MAX_MARK)
                    pipeline.pttl(mark_of(identity))
                replies = pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, NoPermissionError):
                    self._refused_until = time.monotonic() + REFUSED_SECONDS
                    return
                if isinstance(reply, Exception):
                    raise reply
            (generation, outage, *copies), rest = replies[0], iter(replies[1:])
            if generation is None or outage is not None or generation == CLOSED.encode():
                return
            name = generation.decode(errors="replace")
            for identity, copy in zip(page, copies, strict=True):
                left, mark, mark_left = next(rest) / 1000, next(rest), next(rest) / 1000
                yield name, _Known(identity, copy or b"", left, mark, MARK_SECONDS - mark_left)


def _is_possible(identity: object) -> bool:
    """Return whether there may be something under this id; a worker says what is wrong with it."""
    if not isinstance(identity, str) or len(identity) > MAX_RESULT_ID:
        return False
    try:
        identity.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Beliefs:
    """Since when the mark of each request has been believed without a worker's confirmation."""

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def status(self, known: _Known) -> RequestStatus | None:
        """Return the state in a mark that is young enough, and was not believed for too long.

        A submitter may write a mark again and again, so its age alone proves nothing.
        """
        if not 0 <= known.mark_age <= BELIEVED_SECONDS:
            return None
        now = time.monotonic()
        with self._lock:
            since = self._since.setdefault(known.id, now)
            if len(self._since) > MAX_BELIEVED:
                self._since.popitem(last=False)
        return _status_of_mark(known) if now - since <= BELIEVED_SECONDS else None


def _status_of_mark(known: _Known) -> RequestStatus | None:
    """Return the status that a mark stands for; None if there is no readable mark."""
    if not known.mark or len(known.mark) > MAX_MARK:
        return None
    try:
        mark = SubmissionMark.model_validate_json(known.mark, extra="ignore")
    except ValidationError:
        return None
    return RequestStatus(request_id=known.id, state=RequestState(mark.state))
