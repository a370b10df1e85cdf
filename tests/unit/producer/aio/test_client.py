"""The client for asyncio: cancelling, closing, event loops, feeds. Its broker is in memory."""

import asyncio
import contextvars
import inspect
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import pytest

from producer.aio.client import AsyncEnrollmentClient
from producer.aio.records import PAGE
from producer.client import EnrollmentClient
from producer.contract.routing import TaskName
from producer.errors import (
    BrokerUnavailable,
    ClientClosed,
    EnrollmentError,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.publishing.chunking import CHUNK_ROWS
from producer.testing import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from producer.testing.connection import MemoryBroker
from producer.testing.worker import MemoryWorker
from support.event_loops import in_event_loop
from support.stopwatch import Stopwatch
from support.valkey import free_port
from support.waiting import wait_for

REQUEST = {"student_id": "S", "course_ids": ["C"]}


class CountingWorker(MemoryWorker):
    """A worker that notes its tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[TaskName] = []

    def run(
        self, task: TaskName, args: list[Any], kwargs: dict[str, Any], headers: Mapping[str, Any]
    ) -> Any:
        self.ran.append(task)
        return super().run(task, args, kwargs, headers)


class CountingBroker(MemoryBroker):
    """A broker that notes how often, and by which threads, results are read."""

    def __init__(self) -> None:
        self.worker = CountingWorker()
        super().__init__(self.worker)
        self.reads: list[int] = []
        self.readers: set[int] = set()

    def take_results(self, task_ids: Sequence[str]) -> Any:
        self.reads.append(len(task_ids))
        self.readers.add(threading.get_ident())
        return super().take_results(task_ids)


class SlowLookups(MemoryBroker):
    """A broker whose worker does not get the lookups of the states of requests."""

    def put(self, message: Any) -> None:
        if message.task is not TaskName.STATUS:
            super().put(message)


async def with_roster(client: AsyncEnrollmentClient) -> None:
    for kind, sis_id in (("students", "S"), ("courses", "C")):
        await client.wait(await client.submit_batch(kind, [{"sis_id": sis_id}]))


# --- the same verbs ---------------------------------------------------------------------------


def test_the_verbs_are_those_of_the_synchronous_client() -> None:
    def verbs(client: type) -> dict[str, list[tuple[Any, ...]]]:
        return {
            name: [
                (p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()
            ]
            for name, member in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert verbs(AsyncEnrollmentClient) == verbs(EnrollmentClient)


def test_a_client_shows_where_it_connects_and_no_password() -> None:
    client = AsyncEnrollmentClient("redis://u:s3cret@127.0.0.1:1/0", key_prefix="test:", timeout=2)
    url = "redis://u:**@127.0.0.1:1/0"
    assert repr(client) == f"<AsyncEnrollmentClient {url} key_prefix='test:' timeout=2>"
    assert client.shown_url == url
    for wrong in ({"timeout": "5"}, {"key_prefix": "x"}, {"result_backend_url": "amqp://h"}):
        with pytest.raises(ValueError, match=r"timeout|prefix|Redis URL"):
            AsyncEnrollmentClient("redis://127.0.0.1:1/0", **wrong)  # type: ignore[arg-type]


@in_event_loop
async def test_a_call_is_logged_in_one_line_with_ids_and_without_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "producer.client"):
        async with FakeAsyncEnrollmentClient() as client:
            await client.submit_batch("students", [{"sis_id": "S", "name": "Ada"}], batch_id="b")
            await client.wait("b")
            await client.submit({**REQUEST, "request_id": "r"})
            await client.status("r")
            assert [refused async for refused in client.refusals("b")] == []
            with pytest.raises(InvalidRequest):
                await client.enroll({"student_id": "Ada"})
    lines = [message.partition(" in ")[0] for message in caplog.messages]
    assert lines == [
        "submit_batch('b'): ok",
        "wait('b'): ok",
        "submit('r'): ok",
        "status('r'): ok",
        "refusals('b'): ok",
        "enroll(): InvalidRequest",
    ]


# --- many at once -----------------------------------------------------------------------------


@in_event_loop
async def test_a_thousand_calls_share_threads_messages_and_reads() -> None:
    broker = CountingBroker()
    async with FakeAsyncEnrollmentClient(broker=broker) as client:
        await with_roster(client)
        threads = threading.active_count()
        broker.worker.ran.clear()
        broker.reads.clear()
        calls = [client.enroll(REQUEST) for _ in range(1_000)]
        results = await asyncio.gather(*calls)
        assert threading.active_count() <= threads + 2
        assert [result.status for result in results] == ["enrolled"] * 1_000
        statuses = await asyncio.gather(*(client.status(r.request_id) for r in results))
        assert {status.state for status in statuses} == {"done"}
        found = await asyncio.gather(*(client.results("S", limit=1) for _ in range(100)))
        assert len({result.request_id for (result,) in found}) == 1
    lookups = [task for task in broker.worker.ran if task is not TaskName.ENROLL]
    assert len(lookups) <= 5
    assert len(broker.readers) == 1
    assert sum(broker.reads) < 5_000


@in_event_loop
async def test_an_invalid_id_harms_no_lookup_beside_it() -> None:
    async with FakeAsyncEnrollmentClient() as client:
        await with_roster(client)
        ids: list[Any] = ["S", "", "nobody", object(), "S", 0, 1]
        found = await asyncio.gather(*map(client.student, ids), return_exceptions=True)
        assert [type(found[index]) for index in (1, 3, 5)] == [InvalidRequest] * 3
        assert found[2] is None
        assert found[0] == found[4] == found[6] is not None


class BriefWorker(MemoryWorker):
    """A worker whose answer about more than two students would be too large."""

    def run(
        self, task: TaskName, args: list[Any], kwargs: dict[str, Any], headers: Mapping[str, Any]
    ) -> Any:
        if task is TaskName.STUDENT and len(args[0]) > 2:
            raise LookupFailed("the answer would be too large")
        return super().run(task, args, kwargs, headers)


@in_event_loop
async def test_lookups_whose_answers_are_too_large_together_are_answered_apart() -> None:
    async with FakeAsyncEnrollmentClient(broker=MemoryBroker(BriefWorker())) as client:
        await with_roster(client)
        found = await asyncio.gather(*map(client.student, ["S", "nobody"] * 5))
        assert found[1::2] == [None] * 5
        assert [student.sis_id for student in found[::2] if student is not None] == ["S"] * 5


@in_event_loop
async def test_a_queued_request_is_known_without_a_worker() -> None:
    broker = MemoryBroker()
    async with (
        FakeAsyncEnrollmentClient(broker=broker) as client,
        FakeAsyncEnrollmentClient(broker=broker, timeout=0.1) as impatient,
    ):
        await with_roster(client)
        with client.without_worker():
            await client.submit({**REQUEST, "request_id": "queued"})
            assert (await client.status("queued")).state == "queued"
            with pytest.raises(NoWorkerAnswered):
                await impatient.statuses(["queued", "unknown"])
        states = [status.state for status in await client.statuses(["unknown", "queued"])]
        assert states == ["unknown", "done"]


@in_event_loop
async def test_errors_and_time_outs_are_those_of_the_synchronous_client() -> None:
    broker = MemoryBroker()
    waiting = FakeEnrollmentClient(broker=broker, timeout=0.1)
    request = {**REQUEST, "request_id": "r"}
    async with FakeAsyncEnrollmentClient(broker=broker, timeout=0.1) as client:
        for state in (broker.without_worker, broker.unavailable):
            with state():
                calls: list[Callable[[Any], Any]] = [
                    lambda c: c.enroll(request, timeout=0.05),
                    lambda c: c.status("unknown"),
                    lambda c: c.students(["S"]),
                    lambda c: c.results("S", limit=3),
                    lambda c: c.wait("b", timeout=0.05),
                    lambda c: c.health(),
                ]
                for call in calls:
                    with pytest.raises(EnrollmentError) as expected:
                        call(waiting)
                    with pytest.raises(type(expected.value)) as caught:
                        await call(client)
                    assert str(caught.value) == str(expected.value)
        for wrong in ("5", float("nan")):
            with pytest.raises(ValueError, match="number of seconds"):
                await client.enroll(request, timeout=wrong)  # type: ignore[arg-type]


@in_event_loop
async def test_calls_that_wait_for_a_broker_fail_together() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with AsyncEnrollmentClient(url) as client:
        watch = Stopwatch(os.getpid())
        calls = [client.submit(REQUEST) for _ in range(1_000)]
        failed = await asyncio.gather(*calls, client.status("x"), return_exceptions=True)
        assert {type(error) for error in failed} == {BrokerUnavailable}
        assert len(set(map(id, failed))) == len(failed)
        assert watch.seconds() < 10


@in_event_loop
async def test_a_result_that_comes_during_a_check_is_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("producer.aio.submitter.CHECK_SECONDS", 0.05)
    broker = SlowLookups()
    async with FakeAsyncEnrollmentClient(broker=broker, timeout=120) as client:
        with client.without_worker():
            waiting = asyncio.create_task(client.enroll(REQUEST))
            await asyncio.sleep(0.2)
        async with asyncio.timeout(30):
            assert (await waiting).status == "rejected"


# --- cancelling and closing -------------------------------------------------------------------


@in_event_loop
async def test_a_cancelled_call_harms_no_other() -> None:
    async with FakeAsyncEnrollmentClient() as client:
        await with_roster(client)
        with client.without_worker():
            calls: list[asyncio.Task[Any]]
            calls = [asyncio.create_task(client.enroll(REQUEST)) for _ in range(50)]
            calls += [asyncio.create_task(client.status("x")) for _ in range(50)]
            await asyncio.sleep(0.05)
            for call in calls[::2]:
                call.cancel()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.student("S")
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results[::2]} == {asyncio.CancelledError}
        assert not any(isinstance(result, BaseException) for result in results[1::2])


@in_event_loop
async def test_a_lookup_that_no_call_waits_for_any_more_is_given_up() -> None:
    async with FakeAsyncEnrollmentClient(timeout=float("inf")) as client:
        with client.without_worker():
            calls = [asyncio.create_task(client.status(f"{n}")) for n in range(3)]
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            async with asyncio.timeout(30):
                while asyncio.all_tasks() != {asyncio.current_task()}:
                    await asyncio.sleep(0.02)


async def endless() -> AsyncIterator[dict[str, str]]:
    while True:
        await asyncio.sleep(0)
        yield {"sis_id": "S"}


async def first_refusal(client: AsyncEnrollmentClient) -> object:
    async for refused in client.refusals("b"):
        return refused
    return None


@in_event_loop
async def test_closing_ends_every_call_that_waits() -> None:
    client = FakeAsyncEnrollmentClient()
    with client.without_worker():
        waiting: list[Coroutine[Any, Any, Any]] = [client.enroll(REQUEST) for _ in range(20)]
        waiting += [
            client.status("r"),
            client.wait("b"),
            client.results_of(["S"]),
            client.submit_batch("students", endless()),
            client.submit_batch("students", ({"sis_id": "S"} for _ in iter(int, 1))),
            first_refusal(client),
        ]
        calls = [asyncio.create_task(call) for call in waiting]
        await asyncio.sleep(0.1)
        own = asyncio.create_task(client.enroll(REQUEST))
        await asyncio.sleep(0.01)
        own.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await own
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ClientClosed] * len(calls)
    await client.close()
    with pytest.raises(ClientClosed):
        await client.__aenter__()


@in_event_loop
async def test_the_task_of_a_call_that_closing_ended_goes_on() -> None:
    client = FakeAsyncEnrollmentClient()

    async def ask() -> str:
        with pytest.raises(ClientClosed):
            await client.enroll(REQUEST)
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        await asyncio.sleep(0)
        return "went on"

    with client.without_worker():
        asking = asyncio.create_task(ask())
        await asyncio.sleep(0.05)
        await client.close()
        assert await asking == "went on"


# --- event loops and processes ----------------------------------------------------------------


def test_a_client_belongs_to_the_event_loop_that_used_it_first() -> None:
    client = FakeAsyncEnrollmentClient()
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(client.status("x"))
        with pytest.raises(RuntimeError, match="belongs to another event loop; create one in each"):
            second.run(client.status("x"))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            second.run(client.close())
        first.run(client.close())


def test_a_client_can_be_closed_after_the_end_of_its_event_loop() -> None:
    threads = set(threading.enumerate())
    client = FakeAsyncEnrollmentClient()
    asyncio.run(client.status("x"))
    asyncio.run(client.close())
    assert client.closed
    wait_for(lambda: set(threading.enumerate()) <= threads)


@in_event_loop
async def test_the_time_out_can_be_changed() -> None:
    async with FakeAsyncEnrollmentClient(timeout=60) as client:
        client.timeout = 0.05
        with client.without_worker(), pytest.raises(NoWorkerAnswered, match=r"in 0\.05 s"):
            await client.status("x")


FORKED = """
import asyncio, os
from producer.testing import FakeAsyncEnrollmentClient

used, new = FakeAsyncEnrollmentClient(), FakeAsyncEnrollmentClient()

async def ask(client):
    return (await client.status("x")).state

async def main():
    print(await ask(used), flush=True)
    if not os.fork():
        asyncio.events._set_running_loop(None)
        for client in (used, new):
            try:
                print(asyncio.new_event_loop().run_until_complete(ask(client)), flush=True)
            except RuntimeError as error:
                print(error, flush=True)
        asyncio.new_event_loop().run_until_complete(used.close())
        print("closed", used.closed, flush=True)
        os._exit(0)
    os.wait()
    print(await ask(used))
    await used.close()

asyncio.run(main())
"""


def test_after_a_fork_a_used_client_says_so_and_a_new_one_works() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False
    )
    refused = "This AsyncEnrollmentClient was used before the process was forked"
    first, in_child, *others = done.stdout.splitlines()
    assert (first, others) == ("unknown", ["unknown", "closed True", "unknown"]), done.stderr
    assert in_child.startswith(refused)


# --- feeds ------------------------------------------------------------------------------------

context: contextvars.ContextVar[str] = contextvars.ContextVar("context", default="none")


@in_event_loop
async def test_an_asynchronous_iterable_is_read_in_the_task_of_its_caller() -> None:
    seen = set()

    async def records() -> AsyncIterator[dict[str, str]]:
        for number in range(2 * PAGE + 1):
            seen.add((asyncio.current_task(), context.get(), threading.get_ident()))
            yield {"sis_id": f"S{number}"}

    async with FakeAsyncEnrollmentClient() as client:
        context.set("own")
        batch = await client.submit_batch("students", records())
        assert (await client.wait(batch)).books.upserted == 2 * PAGE + 1
    assert seen == {(asyncio.current_task(), "own", threading.get_ident())}


@in_event_loop
async def test_an_error_of_an_iterable_reaches_the_caller() -> None:
    async def records() -> AsyncIterator[dict[str, str]]:
        for number in range(PAGE + 10):
            yield {"sis_id": f"S{number}"}
        raise OSError("the line is cut")

    async with FakeAsyncEnrollmentClient() as client:
        for given in (records(), (1 // 0 for _ in "x")):
            with pytest.raises((OSError, ZeroDivisionError), match=r"line is cut|by zero"):
                await client.submit_batch("students", given)  # type: ignore[arg-type]


@in_event_loop
async def test_a_synchronous_iterable_does_not_block_the_event_loop() -> None:
    released = threading.Event()
    context.set("own")

    def records() -> Iterator[dict[str, str]]:
        assert released.wait(30)
        yield {"sis_id": context.get()}

    async with FakeAsyncEnrollmentClient() as client:
        submitting = asyncio.create_task(client.submit_batch("students", records()))
        await asyncio.sleep(0.05)
        assert (await client.status("x")).state == "unknown"
        released.set()
        assert (await submitting).chunks == 1
        assert await client.student("own") is not None


@in_event_loop
async def test_a_cancelled_batch_ends_its_thread_and_continues_later() -> None:
    read = 0
    last = 2 * CHUNK_ROWS + PAGE + 5
    stopped: list[str] = []

    async def records(stop_at: int) -> AsyncIterator[dict[str, str]]:
        nonlocal read
        try:
            for number in range(3 * CHUNK_ROWS):
                if number == stop_at:
                    await asyncio.sleep(60)
                read = number
                yield {"sis_id": f"S{number}"}
        except asyncio.CancelledError:
            stopped.append("cancelled")
            raise

    async with FakeAsyncEnrollmentClient() as client:
        submitting = asyncio.create_task(
            client.submit_batch("students", records(last), batch_id="b")
        )
        while read < last - 1:
            await asyncio.sleep(0.01)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        assert stopped == ["cancelled"]
        batch = await client.submit_batch("students", records(-1), batch_id="b")
        assert batch.published < batch.chunks == 3
        assert (await client.wait(batch)).books.received == 3 * CHUNK_ROWS


@in_event_loop
async def test_a_full_queue_holds_up_the_iterable_and_not_the_event_loop() -> None:
    read = 0

    async def records() -> AsyncIterator[dict[str, str]]:
        nonlocal read
        for number in range(6 * CHUNK_ROWS):
            read = number + 1
            yield {"sis_id": f"S{number}"}

    progress: list[tuple[int, int]] = []
    async with FakeAsyncEnrollmentClient(timeout=0.1) as client:
        with client.without_worker():
            submitting = asyncio.create_task(
                client.submit_batch(
                    "students",
                    records(),
                    max_queued=2,
                    on_progress=lambda b: progress.append((b.chunks, threading.get_ident())),
                )
            )
            for _ in range(20):
                await asyncio.sleep(0.05)
            # Two chunks wait in the queue; the next one is made, with the one after it.
            assert read <= 4 * CHUNK_ROWS + PAGE
            with pytest.raises(NoWorkerAnswered):
                await client.status("x")
        assert (await submitting).chunks == 6
    assert progress == [(number, threading.get_ident()) for number in range(1, 7)]


@in_event_loop
async def test_more_batches_than_threads_take_turns() -> None:
    async with FakeAsyncEnrollmentClient() as client:
        threads = threading.active_count()
        batches = await asyncio.gather(
            *(client.submit_batch("students", [{"sis_id": f"S{n}"}]) for n in range(20))
        )
        assert threading.active_count() <= threads + 4
        await asyncio.gather(*map(client.wait, batches))
        assert await client.count_applied(batches[7]) == 1


def test_a_program_ends_although_its_event_loop_was_left() -> None:
    code = """
import asyncio
from producer.testing import FakeAsyncEnrollmentClient

async def records():
    await asyncio.sleep(60)
    yield {}

async def main():
    client = FakeAsyncEnrollmentClient()
    task = asyncio.create_task(client.submit_batch("students", records()))
    await asyncio.sleep(0.1)
    loop.stop()

loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.run_forever()
print("left")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "left\n"
