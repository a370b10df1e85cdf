"""Send the lookups that threads make at the same time as one, which a worker answers together."""

import copy
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from producer.errors import LookupFailed, NoWorkerAnswered
from producer.publishing.connection import LOOKUP_HINT
from producer.publishing.forks import renew_after_fork
from producer.publishing.results import not_answered

MAX_SENT = 2
"""The number of merged lookups of one sort on their way at a time; further ones gather."""

SLOW = 0.05
"""Seconds for which a lookup waits for the answer to an earlier one before it is sent beside it:
together they cost less, but one that is slow or lost must not hold up the others."""

LINGER = 0.001
"""Seconds that a lookup waits at most for those of the threads that asked together before."""

AGAIN = 0.02
"""Seconds after an answer for which its threads are expected to ask again."""

MAX_SORTS = 100
"""The number of sorts for which this is known."""

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
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget what gathered before a fork: in the child, no thread would send or wait for it."""
        self._lock = threading.Lock()
        self._gathered: defaultdict[Hashable, list[_Call]] = defaultdict(list)
        self._sent: defaultdict[Hashable, int] = defaultdict(int)
        self._lingering: dict[Hashable, threading.Event] = {}
        """What the leader that waits for other threads waits on, by sort."""
        self._expected: dict[Hashable, tuple[int, float]] = {}
        """How many threads got an answer together at last, by sort, and until when that counts."""

    def ask(self, sort: Hashable, ids: Sequence[Any], page: int, ask: Ask, timeout: float) -> Any:
        """Return the answers about ids, in order, asking at the same time for other threads' ids.

        Lookups of the same `sort` are merged, up to `page` ids. Raises what `ask` raises.
        """
        deadline = time.monotonic() + timeout
        call = _Call(ids, deadline)
        leads_at_once = self._gather(sort, call, timeout)
        if call.leads:
            left = timeout if leads_at_once else max(0.0, deadline - time.monotonic())
            self._lead(sort, call, page, ask, left)
        if call.is_alone:
            return ask(call.ids, max(0.0, deadline - time.monotonic()))
        if call.error is not None:
            raise call.error
        return call.answers

    def _gather(self, sort: Hashable, call: _Call, timeout: float) -> bool:
        """Wait until a lookup is answered, or may lead; return whether it may do so at once.

        Raises NoWorkerAnswered.
        """
        with self._lock:
            self._gathered[sort].append(call)
            leads_at_once = not self._sent[sort]
            if leads_at_once:
                self._let_lead(sort, call)
            elif sort in self._lingering and self._are_all_here(sort):
                self._lingering[sort].set()
        try:
            if not call.changed.wait(min(timeout, SLOW)):
                with self._lock:
                    if self._may_lead(sort, call):
                        self._let_lead(sort, call)
            left = max(0.0, call.deadline - time.monotonic())
            call.changed.wait(min(left, threading.TIMEOUT_MAX))
        except BaseException:
            self._leave(sort, call)
            raise
        if not call.changed.is_set() and self._leave(sort, call):
            raise not_answered(timeout, LOOKUP_HINT)
        return leads_at_once

    def _leave(self, sort: Hashable, call: _Call) -> bool:
        """Let a thread wait no longer; return whether its lookup was not to be answered yet."""
        with self._lock:
            if call.changed.is_set() and not call.leads:
                return False
            waiting = self._gathered.get(sort, [])
            if call in waiting and not call.leads:
                waiting.remove(call)
        if call.leads:
            self._hand_on(sort, call, 0)
        return True

    def _may_lead(self, sort: Hashable, call: _Call) -> bool:
        """Return whether a thread that waits may send its lookup beside an earlier one."""
        has_room = self._sent.get(sort, 0) < MAX_SENT and sort not in self._lingering
        return has_room and call in self._gathered.get(sort, []) and not call.leads

    def _let_lead(self, sort: Hashable, call: _Call) -> None:
        self._sent[sort] += 1
        call.leads = True
        call.changed.set()

    def _are_all_here(self, sort: Hashable) -> bool:
        """Return whether no further thread is expected to ask now."""
        threads, until = self._expected.get(sort, (1, 0.0))
        return len(self._gathered[sort]) >= threads or time.monotonic() > until

    def _linger(self, sort: Hashable) -> None:
        """Wait a moment for the threads that asked together before."""
        with self._lock:
            if sort in self._lingering or self._are_all_here(sort):
                return
            all_here = self._lingering[sort] = threading.Event()
        try:
            all_here.wait(LINGER)
        finally:
            with self._lock:
                del self._lingering[sort]

    def _lead(self, sort: Hashable, own: _Call, page: int, ask: Ask, timeout: float) -> None:
        calls = [own]
        try:
            self._linger(sort)
            with self._lock:
                calls = self._take(sort, own, page)
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
            self._hand_on(sort, own, len(calls))
            for call in calls:
                call.changed.set()

    def _take(self, sort: Hashable, own: _Call, page: int) -> list[_Call]:
        """Take the leader's own lookup, and what has gathered and fits."""
        gathered = self._gathered[sort]
        gathered.remove(own)
        calls, size = [own], len(own.ids)
        # Another leader takes its own.
        for call in [call for call in gathered if not call.leads]:
            if size + len(call.ids) > page:
                break
            gathered.remove(call)
            calls.append(call)
            size += len(call.ids)
        return calls

    def _hand_on(self, sort: Hashable, own: _Call, threads: int) -> None:
        """Make the next thread that waits the leader; without one, forget the sort.

        `threads` got an answer just now.
        """
        with self._lock:
            gathered = self._gathered[sort]
            if own in gathered:  # The thread was interrupted before it could take it.
                gathered.remove(own)
            if len(self._expected) > MAX_SORTS:
                self._expected.clear()
            self._expected[sort] = (threads + len(gathered), time.monotonic() + AGAIN)
            waiting = [call for call in gathered if not call.leads]
            # A leader that lingers takes those that wait.
            if waiting and sort not in self._lingering:
                waiting[0].leads = True
                waiting[0].changed.set()
                return
            self._sent[sort] -= 1
            if not self._sent[sort] and not gathered:
                del self._sent[sort], self._gathered[sort]
