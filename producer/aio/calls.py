"""Guard the verbs of an asynchronous client: its event loop, its end, and a line in the log."""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from producer.call_log import log, logged
from producer.errors import ClientClosed
from producer.publishing.flags import check_flags, flags_of


class Calls:
    """The calls of a client that have not returned; all of them are in one event loop."""

    def __init__(self) -> None:
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._open: dict[asyncio.Task[Any], int] = {}
        """The tasks in a call, each with how many times it was being cancelled at its begin."""
        self._interrupted: set[asyncio.Task[Any]] = set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Take the current task for one in a call, which `close` ends with ClientClosed.

        Raises ClientClosed, and RuntimeError in another event loop or process than the first call.
        """
        if self.closed:
            raise ClientClosed
        task = self._task_in_own_loop()
        if task in self._open:
            yield
            return
        self._open[task] = task.cancelling()
        try:
            yield
        except asyncio.CancelledError:
            if self._is_interrupted_only(task):
                raise ClientClosed from None
            raise
        finally:
            if task in self._interrupted:
                self._interrupted.remove(task)
                task.uncancel()
            del self._open[task]

    def _is_interrupted_only(self, task: asyncio.Task[Any]) -> bool:
        """Return whether `close` cancelled this task, and no other code did."""
        return task in self._interrupted and task.cancelling() - 1 <= self._open[task]

    def _task_in_own_loop(self) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._process = loop, os.getpid()
        if self._process != os.getpid():
            raise RuntimeError(
                "This AsyncEnrollmentClient was used before the process was forked; create one in"
                " each process."
            )
        if self._loop is not loop:
            raise RuntimeError(
                "This AsyncEnrollmentClient belongs to another event loop; create one in each event"
                " loop, for example with `async with AsyncEnrollmentClient(…) as client:`."
            )
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An AsyncEnrollmentClient must be used within an asyncio task.")
        return task

    def close(self) -> bool:
        """End every call with ClientClosed; only the current task goes on.

        Returns whether there are threads and connections to close: those of a client that was used
        before a fork are its parent's. Raises RuntimeError in another event loop, while that of the
        calls is open.
        """
        is_own_process = self._process in (0, os.getpid())
        if is_own_process and self._loop is not None and not self._loop.is_closed():
            self._task_in_own_loop()
        self.closed = True
        for task in self._open.keys() - {asyncio.current_task()} if is_own_process else ():
            self._interrupted.add(task)
            task.cancel()
        return is_own_process


class HasCalls(Protocol):
    """A client with verbs."""

    _calls: Calls


C = TypeVar("C", bound=HasCalls)
P = ParamSpec("P")
R = TypeVar("R")


def verb(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """Guard a method as `Calls.entered` says, check its flags, and log its calls at DEBUG."""
    flags = flags_of(method)

    @functools.wraps(method)
    async def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._calls.entered():
            check_flags(flags, kwargs)
            if not log.isEnabledFor(logging.DEBUG):
                return await method(self, *args, **kwargs)
            with logged(method.__name__.lstrip("_"), args, kwargs) as results:
                result = await method(self, *args, **kwargs)
                results.append(result)
                return result

    return call
