"""Event streams: those of one batch share its lookups, and all of them end in time."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from producer.contract.batches import BatchStatus
from producer.contract.routing import TaskName
from producer.web import feeds
from producer.web.feeds import BatchFeeds
from producer.web.problems import Refused
from producer.web.stopping import Stopping
from support.recording import RecordingWorker


class ScriptedWorker(RecordingWorker):
    """Answers with one state of a batch after the other, and counts how often it is asked."""

    def __init__(self, *states: str | Exception) -> None:
        super().__init__()
        self.states = list(states)
        self.asked = 0

    def run(self, task: TaskName, args: list[Any], *_: Any) -> Any:
        assert task is TaskName.BATCH
        self.asked += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return [{"batch_id": batch_id, "state": state} for batch_id in args[0]]


def status(state: str, batch_id: str = "b1") -> BatchStatus:
    return BatchStatus.model_validate({"batch_id": batch_id, "state": state})


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "EVENT_SECONDS", 0.02)


def followed(worker: ScriptedWorker, stopping: Stopping) -> BatchFeeds:
    return BatchFeeds(worker.async_client(), stopping)


async def read(events: AsyncIterator[str]) -> list[str]:
    """Return the states that a stream tells, and its comments as they are."""
    seen = []
    async for event in events:
        is_data = event.startswith("data: ")
        seen.append(json.loads(event[6:])["state"] if is_data else event.strip())
    return seen


def test_streams_of_one_batch_share_its_lookups() -> None:
    async def run() -> None:
        worker = ScriptedWorker("queued", "running", "running", "done")
        together = followed(worker, Stopping())
        streams = [read(together.events(status("queued"))) for _ in range(200)]
        for seen in await asyncio.gather(*streams):
            assert (seen[0], seen[-1]) == ("queued", "done")
        assert worker.asked == 4
        assert not together._feeds  # noqa: SLF001

    asyncio.run(run())


def test_a_batch_that_is_done_is_not_looked_up_again() -> None:
    async def run() -> None:
        worker = ScriptedWorker("done")
        assert await read(followed(worker, Stopping()).events(status("done"))) == ["done"]
        assert worker.asked == 0

    asyncio.run(run())


def test_nobody_is_asked_once_all_readers_have_gone() -> None:
    async def run() -> None:
        worker = ScriptedWorker("running")
        together = followed(worker, Stopping())
        reading = asyncio.create_task(read(together.events(status("queued"))))
        async with asyncio.timeout(30):
            while not worker.asked:
                await asyncio.sleep(0.01)
            reading.cancel()
            while together._feeds:  # noqa: SLF001
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # A look-up that was under way ends.
        asked = worker.asked
        await asyncio.sleep(0.1)
        assert worker.asked == asked
        assert not together._feeds  # noqa: SLF001

    asyncio.run(run())


def test_an_error_is_told_and_the_stream_goes_on() -> None:
    async def run() -> None:
        worker = ScriptedWorker(RuntimeError("secret"), "done")
        seen = await read(followed(worker, Stopping()).events(status("running")))
        assert seen == ["running", ": RuntimeError; asking again", "done"]

    asyncio.run(run())


def test_a_quiet_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(feeds, "EVENT_SECONDS", 1.0)

    async def run() -> None:
        seen = await read(followed(ScriptedWorker("done"), Stopping()).events(status("running")))
        assert seen[0] == "running"
        assert set(seen[1:-1]) == {": nothing new"}
        assert seen[-1] == "done"

    asyncio.run(run())


def test_streams_end_when_the_process_is_to_end() -> None:
    async def run() -> None:
        stopping = Stopping()
        together = followed(ScriptedWorker("running"), stopping)
        reading = asyncio.create_task(read(together.events(status("running"))))
        await asyncio.sleep(0.05)
        stopping.begin()
        async with asyncio.timeout(30):
            assert set(await reading) == {"running"}

    asyncio.run(run())


@pytest.mark.parametrize("ends_with_error", [True, False])
def test_a_stream_ends_before_a_status_that_is_not_admitted(ends_with_error: bool) -> None:
    async def admit(news: BatchStatus) -> bool:
        if ends_with_error and news.state == "done":
            raise Refused(503, "audit_unavailable", "It cannot be recorded.")
        return news.state != "done"

    async def run() -> None:
        worker = ScriptedWorker("queued", "running", "done")
        together = followed(worker, Stopping())
        own = read(together.events(status("queued"), admit))
        seen, of_another = await asyncio.gather(own, read(together.events(status("queued"))))
        assert (seen[-1], of_another[-1]) == ("running", "done")
        assert not together._feeds  # noqa: SLF001

    asyncio.run(run())
