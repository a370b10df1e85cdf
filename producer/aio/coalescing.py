"""Do together what is asked for at the same time, in one event loop."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from typing import Generic, NamedTuple, TypeVar

from producer.errors import EnrollmentError

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"
    context: Context
    """That of the caller."""


class Coalescer(Generic[Key, Item, Result]):
    """Collects items while earlier ones with the same key are being worked on.

    `work` gets a key and at most `at_most` items, and returns a result or an error for each. An
    error that it raises is that of every item, also of those that wait meanwhile: the next group
    would only take as long to fail. After `linger` seconds, the next group does not wait for the
    earlier one any longer. Work that no caller waits for any more is cancelled.
    """

    def __init__(
        self,
        work: Callable[[Key, list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        at_most: int,
        linger: float | None = None,
    ) -> None:
        self._work = work
        self._at_most = at_most
        self._linger = linger
        self._waiting: dict[Key, list[_Waiting[Item, Result]]] = {}
        self._runners: dict[Key, asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    async def add(self, key: Key, item: Item) -> Result:
        """Have an item worked on, and return its result. Raises its error."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(_Waiting(item, future, copy_context()))
        if key not in self._runners:
            runner = asyncio.create_task(self._run(key), context=Context())
            self._runners[key] = runner
        return await future

    def close(self) -> None:
        """Cancel all work."""
        for task in (*self._runners.values(), *self._jobs):
            task.cancel()

    async def _run(self, key: Key) -> None:
        try:
            while waiting := [w for w in self._waiting.pop(key, ()) if not w.future.done()]:
                group, rest = waiting[: self._at_most], waiting[self._at_most :]
                if rest:
                    self._waiting[key] = rest
                await asyncio.wait([self._start(key, group)], timeout=self._linger)
        finally:
            del self._runners[key]

    def _start(self, key: Key, group: list[_Waiting[Item, Result]]) -> "asyncio.Task[None]":
        """Start working on a group; cancel the work once every caller has gone."""
        # The work of several callers has the context of none of them.
        context = group[0].context if len(group) == 1 else Context()
        job = asyncio.create_task(self._do(key, group), context=context)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        callers = len(group)

        def leave(_: object) -> None:
            nonlocal callers
            callers -= 1
            if not callers:
                job.cancel()

        for waiting in group:
            waiting.future.add_done_callback(leave)
        return job

    async def _do(self, key: Key, group: list[_Waiting[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = await self._work(key, [waiting.item for waiting in group])
        except Exception as error:  # noqa: BLE001 - every caller raises it
            group += self._waiting.pop(key, ())
            results = [one_of(error) for _ in group]
        for waiting, result in zip(group, results, strict=True):
            future = waiting.future
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def one_of(error: Exception) -> Exception:
    """Return an error for one of several callers: its traceback grows each time it is raised."""
    if not isinstance(error, EnrollmentError):
        return error
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
