"""Follow the progress of batches for event streams; streams of one batch share its lookups."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from producer.aio.client import AsyncEnrollmentClient
from producer.contract.batches import BatchState, BatchStatus
from producer.waiting import ENDS_OF_PLANS
from producer.web.problems import Refused
from producer.web.stopping import Stopping

log = logging.getLogger(__name__)

EVENT_SECONDS: Final = 0.5
"""Seconds between two lookups of a batch."""

QUIET_SECONDS: Final = 15.0
"""Seconds after which a stream without news sends a comment, so that proxies keep it open."""


_ENDS: Final = (BatchState.DONE, *ENDS_OF_PLANS)
"""The states with which a stream ends."""

Admit = Callable[[BatchStatus], Awaitable[bool]]
"""Returns whether a status may be sent; it may raise Refused in place of returning False."""


class _Feed:
    """The latest news of one batch."""

    def __init__(self, first: BatchStatus) -> None:
        self.latest: BatchStatus | Exception = first
        self.readers = 0
        self.news = asyncio.Event()
        """Replaced with each news."""

    def publish(self, latest: BatchStatus | Exception) -> None:
        self.latest = latest
        before, self.news = self.news, asyncio.Event()
        before.set()


class BatchFeeds:
    """The batches that event streams follow; belongs to one event loop."""

    def __init__(self, client: AsyncEnrollmentClient, stopping: Stopping) -> None:
        self._client = client
        self._stopping = stopping
        self._feeds: dict[str, _Feed] = {}
        self._polls: set[asyncio.Task[None]] = set()

    async def events(self, first: BatchStatus, admit: Admit | None = None) -> AsyncIterator[str]:
        """Yield the status of a batch as server-sent events, until it is done.

        The stream of a planned batch also ends when it is planned, held or discarded.

        A stream that is slow to read skips to the latest status. It ends when the process is to
        end; browsers then connect again by themselves. It also ends when `admit` does not admit
        the next status or raises Refused; `first` was admitted before.
        """
        yield _event(first)
        if first.state in _ENDS:
            return
        feed = self._join(first)
        seen: BatchStatus | Exception = feed.latest
        try:
            while not isinstance(seen, BatchStatus) or seen.state not in _ENDS:
                news = feed.news
                if feed.latest is seen and await self._stopping.wait_for(news, QUIET_SECONDS):
                    return
                if feed.latest is seen:
                    yield ": nothing new\n\n"
                else:
                    seen = feed.latest
                    if admit is not None and not await _is_admitted(admit, seen):
                        return
                    yield _event(seen)
        finally:
            feed.readers -= 1

    def _join(self, first: BatchStatus) -> _Feed:
        feed = self._feeds.get(first.batch_id)
        if feed is None:
            feed = self._feeds[first.batch_id] = _Feed(first)
            poll = asyncio.create_task(self._poll(first.batch_id, feed))
            self._polls.add(poll)
            poll.add_done_callback(self._polls.discard)
        feed.readers += 1
        return feed

    async def _poll(self, batch_id: str, feed: _Feed) -> None:
        """Look a batch up for as long as a stream follows it and it is not done."""
        is_done = False
        try:
            while not is_done and not await self._stopping.wait(EVENT_SECONDS) and feed.readers:
                try:
                    status = await self._client.batch(batch_id)
                except Exception as error:  # noqa: BLE001 - the streams would wait for ever
                    log.warning("the batch of an event stream could not be looked up: %s", error)
                    feed.publish(error)
                else:
                    is_done = status.state in _ENDS
                    feed.publish(status)
        finally:
            del self._feeds[batch_id]


async def _is_admitted(admit: Admit, news: BatchStatus | Exception) -> bool:
    try:
        return not isinstance(news, BatchStatus) or await admit(news)
    except Refused:  # It is too late to answer with a problem.
        return False


def _event(news: BatchStatus | Exception) -> str:
    """Return an event with a status, or a comment about why it is missing."""
    if isinstance(news, BatchStatus):
        return f"data: {news.model_dump_json()}\n\n"
    return f": {type(news).__name__}; asking again\n\n"
