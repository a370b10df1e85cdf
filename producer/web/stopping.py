"""End the process within its grace time after SIGTERM, whatever its calls wait for."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

MARGIN: Final = 2.0
"""Seconds after the grace time, in which calls end, until the process is ended from outside."""


class Stopping:
    """Lets the calls of one event loop know that the process is to end."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """Let calls that wait for something end with what they know."""
        self._begun.set()

    async def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; return whether the process is to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._begun.wait()
        except TimeoutError:
            return False
        return True

    async def wait_for(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for an event at most so many seconds; return whether the process is to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.unless_begun(event.wait())
        return self._begun.is_set()

    async def unless_begun(
        self, work: Coroutine[Any, Any, T], *ends: Coroutine[Any, Any, object]
    ) -> T | None:
        """Return the result of some work.

        Returns None, and cancels the work, if the process is to end before, or one of `ends` does.
        """
        working = asyncio.ensure_future(work)
        ending = [asyncio.ensure_future(end) for end in (self._begun.wait(), *ends)]
        try:
            await asyncio.wait((working, *ending), return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else None
        finally:
            for task in (working, *ending):
                task.cancel()


def on_sigterm(stopping: Stopping, grace: float) -> None:
    """At SIGTERM, let calls know, then do what the server does; end the process after the grace.

    A thread may wait for the broker or for a roster for minutes, and the interpreter would wait for
    the thread. Call this in the event loop, after the server has set its own handler.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # The front is embedded in another program, whose signals are its own.
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.begin)
        end = threading.Timer(grace + MARGIN, _end, (grace,))
        end.daemon = True
        end.start()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, stop)


def _end(grace: float) -> None:
    log.error(
        "Calls or threads were still busy %g s after SIGTERM, so the process ends without them."
        " An upload that was not accepted can be sent again under the same batch id.",
        grace,
    )
    os._exit(1)
