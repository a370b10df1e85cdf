"""Send the lookups that threads make at the same time as one, which a worker answers together."""

import copy
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from producer.errors import LookupFailed, NoWorkerAnswered
from producer.publishing.connection import LOOKUP_HINT
from producer.publishing.results import not_answered

MAX_SENT = 2
"""The number of merged lookups of one sort on their way at a time; further ones gather."""

MAX_IDS = 20
"""The most ids of a lookup that is merged with others; a larger one is sent by itself."""

Ask = Callable[[list[Any], float], list[Any]]
"""Ask a worker about ids, for at most so many seconds; return the answers in the same order."""


class _Call:
    """One thread's lookup. Its fields change under the lock of `MergedLookups`."""

    def __init__(self, ids: Sequence[Any], deadline: float) -> None:
        self.ids = list(ids)
        self.deadline = deadline
        self.leads = False
        """Whether this thread has to send what has gathered, with its own lookup."""
        self.answers: list[Any] | None = None
        self.error: Exception | None = None
        self.is_alone = False
        """Whether to ask again alone, because the failure may be that of another's lookup."""
        self.changed = threading.Event()

    def fail(self, error: Exception, *, merged: bool, sent: bool) -> None:
        """Note an error; another's ids may be its reason, or that the sender had less time."""
        self.error = copy.copy(error)
        if isinstance(error, NoWorkerAnswered):
            self.is_alone = not sent and self.deadline > time.monotonic()
        elif isinstance(error, LookupFailed):
            self.is_alone = merged


class MergedLookups:
    """The lookups that gather in one client."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._gathered: defaultdict[Hashable, list[_Call]] = defaultdict(list)
        self._sent: defaultdict[Hashable, int] = defaultdict(int)

    def ask(self, sort: Hashable, ids: Sequence[Any], page: int, ask: Ask, timeout: float) -> Any:
        """Return the answers about ids, in order, asking at the same time for other threads' ids.

        Lookups of the same `sort` are merged, up to `page` ids. Raises what `ask` raises.
        """
        if self._pid != os.getpid():
            self._start()  # After a fork, the threads that were to answer do not exist.
        deadline = time.monotonic() + timeout
        call = _Call(ids, deadline)
        with self._lock:
            self._gathered[sort].append(call)
            leads_at_once = self._sent[sort] < MAX_SENT
            if leads_at_once:
                self._sent[sort] += 1
                call.leads = True
                call.changed.set()
        call.changed.wait(min(timeout, threading.TIMEOUT_MAX))
        with self._lock:
            if not call.changed.is_set():
                if call in self._gathered[sort]:
                    self._gathered[sort].remove(call)
                raise not_answered(timeout, LOOKUP_HINT)
        if call.leads:
            left = timeout if leads_at_once else max(0.0, deadline - time.monotonic())
            self._lead(sort, call, page, ask, left)
        if call.is_alone:
            return ask(call.ids, max(0.0, deadline - time.monotonic()))
        if call.error is not None:
            raise call.error
        return call.answers

    def _lead(self, sort: Hashable, own: _Call, page: int, ask: Ask, timeout: float) -> None:
        with self._lock:
            calls = self._take(sort, own, page)
        try:
            answers = ask([i for call in calls for i in call.ids], timeout)
        except Exception as error:  # noqa: BLE001 - every thread raises it, or asks alone
            for call in calls:
                call.fail(error, merged=len(calls) > 1, sent=call is own)
        except BaseException:
            for call in calls:
                call.is_alone = True
            raise
        else:
            rest = iter(answers)
            for call in calls:
                call.answers = [next(rest) for _ in call.ids]
        finally:
            self._hand_on(sort)
            for call in calls:
                call.changed.set()

    def _take(self, sort: Hashable, own: _Call, page: int) -> list[_Call]:
        """Take the leader's own lookup, and what has gathered and fits."""
        gathered = self._gathered[sort]
        gathered.remove(own)
        calls, size = [own], len(own.ids)
        while gathered and size + len(gathered[0].ids) <= page:
            calls.append(gathered.pop(0))
            size += len(calls[-1].ids)
        return calls

    def _hand_on(self, sort: Hashable) -> None:
        """Make the next thread that waits the leader; without one, forget the sort."""
        with self._lock:
            if self._gathered[sort]:
                self._gathered[sort][0].leads = True
                self._gathered[sort][0].changed.set()
                return
            self._sent[sort] -= 1
            if not self._sent[sort]:
                del self._sent[sort], self._gathered[sort]
