"""Use the asynchronous client, or a stand-in, where a test is written for the synchronous one."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient


class Blocking:
    """An asynchronous client in an event loop of its own, with verbs that wait."""

    def __init__(self, client: AsyncEnrollmentClient, run: Callable[[Any], Any]) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            called = attribute(*args, **kwargs)
            if isinstance(called, AsyncIterator):
                return iter(self._run(_collected(called)))
            return self._run(called) if inspect.iscoroutine(called) else called

        return call


async def _collected(values: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in values]


@contextmanager
def blocking(make: Callable[[], AsyncEnrollmentClient]) -> Iterator[EnrollmentClient]:
    """Make an asynchronous client, and yield what looks like a synchronous one."""
    with asyncio.Runner() as runner:
        client = make()
        yield cast("EnrollmentClient", Blocking(client, runner.run))
        runner.run(client.close())
