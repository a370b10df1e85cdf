"""Wait for the results of any number of tasks: one loop reads all of them together."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from producer.aio.coalescing import one_of
from producer.publishing.results import Stored

SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
"""Seconds between two reads; in between, a pause is a tenth of the newest wait."""


class ResultPoller:
    """Reads the result keys of all tasks that are waited for, in one event loop.

    `read` returns what is stored about those of the given tasks that have ended. An error that it
    raises ends every wait, also those that began meanwhile.
    """

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[dict[str, Stored]]]) -> None:
        self._read = read
        self._waits: dict[str, asyncio.Future[Stored]] = {}
        self._newest = 0.0
        self._has_new = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None

    @contextmanager
    def awaiting(self, task_id: str) -> Iterator["asyncio.Future[Stored]"]:
        """Yield a future that receives what is stored about a task once it has ended."""
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waits[task_id] = future
        self._newest = time.monotonic()
        self._has_new.set()
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield future
        finally:
            del self._waits[task_id]
            if not future.cancel() and not future.cancelled():
                future.exception()  # Otherwise asyncio would report an error that no call raises.

    def close(self) -> None:
        """Stop reading."""
        if self._polling is not None:
            self._polling.cancel()

    async def _poll(self) -> None:
        try:
            while waits := {i: f for i, f in self._waits.items() if not f.done()}:
                started = time.monotonic()
                await self._read_once(waits)
                now = time.monotonic()
                # Reading takes at most a third of the time, however many results are waited for.
                await asyncio.sleep(max(SHORTEST_PAUSE, 2 * (now - started)))
                await self._pause((now - self._newest) / 10)
        finally:
            self._polling = None

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, but not while there is a wait that is new."""
        self._has_new.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LONGEST_PAUSE)):
                await self._has_new.wait()

    async def _read_once(self, waits: "dict[str, asyncio.Future[Stored]]") -> None:
        try:
            ended = await self._read(list(waits))
        except Exception as error:  # noqa: BLE001 - every wait raises it
            for future in self._waits.values():
                if not future.done():
                    future.set_exception(one_of(error))
            return
        for task_id, stored in ended.items():
            if not waits[task_id].done():
                waits[task_id].set_result(stored)
