"""Publish a batch in a thread, and feed it with records that an event loop reads."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Generic, TypeVar, cast

from producer.publishing.connection import BrokerConnection

Item = TypeVar("Item")
Result = TypeVar("Result")

PAGE = 500
"""How many records of an asynchronous iterable are handed over at once."""


class Interrupted(Exception):
    """The call that publishes a batch was cancelled; only the thread that publishes sees this."""


class InterruptibleConnection:
    """A connection that raises Interrupted, whatever is called, once it was interrupted."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._is_interrupted = False

    def interrupt(self) -> None:
        """Let every call raise Interrupted."""
        self._is_interrupted = True

    def __getattr__(self, name: str) -> Any:
        if self._is_interrupted:
            raise Interrupted
        return getattr(self._connection, name)


class Feed(Generic[Item]):
    """The records of an asynchronous iterable, as an iterator for another thread.

    The event loop reads the next page only when the thread wants it, so that no more than a page
    is in memory.
    """

    def __init__(self, records: AsyncIterable[Item]) -> None:
        self._records = aiter(records)
        self._loop = asyncio.get_running_loop()
        self._wakes = asyncio.Event()
        self._pages: queue.SimpleQueue[list[Item] | Exception] = queue.SimpleQueue()
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Item]:
        """Yield every record, in the thread that publishes. Raises what the iterable raises."""
        while page := self._next_page():
            yield from page

    def _next_page(self) -> list[Item]:
        self._loop.call_soon_threadsafe(self._wakes.set)
        page = self._pages.get()
        if isinstance(page, Exception):
            raise page
        return page

    async def serve(self, published: "asyncio.Future[Any]") -> None:
        """Read records, in the task that calls this, until the batch is published."""
        published.add_done_callback(lambda _: self._wakes.set())
        try:
            while True:
                await self._wakes.wait()
                self._wakes.clear()
                if published.done():
                    return
                try:
                    self._pages.put(await self._read_page())
                except Exception as error:  # noqa: BLE001 - the thread raises it, and its call
                    self._pages.put(error)
        finally:
            self._pages.put(Interrupted())

    async def _read_page(self) -> list[Item]:
        if self._error is not None:
            raise self._error
        page: list[Item] = []
        while len(page) < PAGE:
            try:
                page.append(await anext(self._records))
            except StopAsyncIteration:
                break
            except Exception as error:  # noqa: BLE001 - it is raised after the records before it
                self._error = error
                break
        if not page and self._error is not None:
            raise self._error
        return page


async def publish_in_thread(
    connection: BrokerConnection,
    records: Iterable[Item] | AsyncIterable[Item],
    publish: Callable[[BrokerConnection, Iterable[Item]], Result],
) -> Result:
    """Run `publish` in a thread and return its result; interrupt it if this call is cancelled.

    A synchronous iterable is read in that thread, so that it may block.
    """
    own_connection = InterruptibleConnection(connection)
    feed = Feed(records) if isinstance(records, AsyncIterable) else None
    given = feed if feed is not None else cast("Iterable[Item]", records)
    published = in_daemon_thread(lambda: publish(cast("BrokerConnection", own_connection), given))
    try:
        if feed is not None:
            await feed.serve(published)
        return await published
    except BaseException:
        own_connection.interrupt()
        published.cancel()
        raise


def in_daemon_thread(work: Callable[[], Result]) -> "asyncio.Future[Result]":
    """Start a thread for some work, in the context of the caller; return the future of its result.

    A program that ends does not wait for the thread, which may be waiting for records.
    """
    loop = asyncio.get_running_loop()
    context = copy_context()
    future: asyncio.Future[Result] = loop.create_future()

    def deliver(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(cast("Result", result))
        else:
            future.set_exception(error)

    def run() -> None:
        result = problem = None
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - the call that waits raises it
            problem = error
        with suppress(RuntimeError):  # The event loop may be closed by now.
            loop.call_soon_threadsafe(deliver, result, problem)

    threading.Thread(target=run, name="enrollment-batch", daemon=True).start()
    return future
