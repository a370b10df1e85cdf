"""Run tests in event loops, and count what they leave behind."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from support.waiting import wait_for

P = ParamSpec("P")


def in_event_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own; it must leave neither tasks nor threads."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        threads = set(threading.enumerate())
        asyncio.run(_alone(test(*args, **kwargs)))
        wait_for(lambda: set(threading.enumerate()) <= threads)

    return run


async def _alone(test: Coroutine[Any, Any, None]) -> None:
    await test
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert left == set()
