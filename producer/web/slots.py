"""Bound how many calls of a sort run at the same time, in total and for each caller."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from producer.web.problems import Refused


class Sort(StrEnum):
    """What a call holds while it runs. Each sort has bounds of its own, so that none stops others.

    The values are what messages call them.
    """

    CALL = "calls"
    """A call that is answered as soon as possible."""
    UPLOAD = "uploads"
    WAIT = "calls that wait for a result"
    """A call with `Prefer: wait=N`."""
    STREAM = "event streams"


RETRY_SECONDS: Mapping[Sort, int] = {Sort.CALL: 1, Sort.UPLOAD: 10, Sort.WAIT: 5, Sort.STREAM: 5}
"""Seconds after which a refused call of each sort should be sent again."""


_FILES: Final = ("/batches", "/batches/check", "/batches/preview")
"""The paths to which files are sent."""


def sort_of(method: str, path: str, headers: Mapping[bytes, bytes]) -> Sort:
    """Return the sort of a call, from what is known before its body is read."""
    if method == "POST" and path in _FILES:
        return Sort.UPLOAD
    if path.startswith("/batches/") and path.endswith("/events"):
        return Sort.STREAM
    return Sort.WAIT if b"wait" in headers.get(b"prefer", b"").lower() else Sort.CALL


WITHOUT_TOKEN: Final = ""
"""The name that all callers without a token have together, where others have tokens."""


class Slots:
    """The calls of one sort that run; one event loop uses it.

    A caller has at most half of them: so a caller that does not stop leaves room for the others.
    """

    def __init__(self, sort: Sort, total: int) -> None:
        self._sort = sort
        self._total = total
        self._per_caller = max(1, total // 2)
        self._running: Counter[str | None] = Counter()

    @contextmanager
    def taken(self, caller: str | None) -> Iterator[None]:
        """Count a call while it runs; without tokens, the caller is None and may have all slots.

        Raises Refused if there is no slot.
        """
        is_greedy = caller is not None and self._running[caller] >= self._per_caller
        if is_greedy or self._running.total() >= self._total:
            whose = "There are"
            if is_greedy:
                whose = "The caller of this token has" if caller else "Callers without a token have"
            raise Refused(
                429,
                "too_many_requests",
                f"{whose} too many {self._sort} at once; try again later.",
                **{"Retry-After": str(RETRY_SECONDS[self._sort])},
            )
        self._running[caller] += 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]
