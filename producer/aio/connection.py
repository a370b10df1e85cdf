"""Use the broker's connection from an event loop, with three kinds of threads.

One thread publishes, one reads results, and up to `MAX_BATCHES` publish batches. No thread waits
for the result of a request.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from producer.aio.coalescing import Coalescer, one_of
from producer.aio.polling import ResultPoller
from producer.contract.headers import moment_headers
from producer.contract.keys import Owned
from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from producer.errors import BrokerUnavailable, EnrollmentError, NoWorkerAnswered
from producer.fields import MAX_LOOKUP
from producer.publishing.connection import (
    CALL_ID,
    LOOKUP_HINT,
    BrokerConnection,
    check_timeout,
    expiry,
    new_task_id,
)
from producer.publishing.polling import PollingProblem
from producer.publishing.repeating import repeat_after
from producer.publishing.requests import IdentifiedRequest
from producer.publishing.results import Stored, not_answered, outcome_of, parse_result

MAX_PER_PUBLISH = 200
"""The largest number of messages that are published together."""
MAX_PER_READ = 1_000
"""The largest number of result keys, or of states, that are read together."""
MAX_BATCHES = 4
"""How many batches are published at the same time; more of them wait."""
LONGEST_PAUSE = 3_600.0
"""Seconds that an event loop is asked to wait at most; not all of them know infinity."""
LINGER = 0.05
"""Seconds for which a lookup waits at most for others, while an earlier one is answered."""

T = TypeVar("T")

_POLLS = (TaskName.STATUS, TaskName.BATCH)
"""The lookups that Redis may answer."""


class Message(NamedTuple):
    """A task to be published; `request` is the one whose mark is left before, if any."""

    task: TaskName
    args: list[Any]
    kwargs: Mapping[str, Any]
    task_id: str
    options: Mapping[str, Any]
    request: IdentifiedRequest | None = None


class LookupKind(NamedTuple):
    """What lookups have in common that are sent as one message: all but their ids."""

    task: TaskName
    options: tuple[tuple[str, Any], ...] = ()
    page: int = MAX_LOOKUP
    """The largest number of ids in one message."""


class AsyncConnection:
    """A connection to the broker for one event loop. It raises what `BrokerConnection` raises.

    `timeout` is the longest wait for the answer to a lookup, in seconds.
    """

    def __init__(self, connection: BrokerConnection, timeout: float) -> None:
        self.sync = connection
        self.timeout = timeout
        self._publishing = ThreadPoolExecutor(1, "enrollment-publish")
        self._reading = ThreadPoolExecutor(1, "enrollment-read")
        self.batches = asyncio.Semaphore(MAX_BATCHES)
        """What a call holds while it publishes a batch in a thread."""
        # By queue: a submitter who lacks the right to one of them may use the others.
        self._messages: Coalescer[Queue, Message, None] = Coalescer(
            self._publish, at_most=MAX_PER_PUBLISH
        )
        self._lookups: Coalescer[LookupKind, Any, Any] = Coalescer(
            self._answer, at_most=MAX_LOOKUP, linger=LINGER
        )
        self._states: Coalescer[LookupKind, str, Any] = Coalescer(
            self._read_states, at_most=MAX_PER_READ
        )
        self._results = ResultPoller(self._read)

    async def close(self) -> None:
        """Close every connection and end the threads."""
        self._messages.close()
        self._lookups.close()
        self._states.close()
        self._results.close()
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._publishing, self.sync.close)
        finally:
            self._publishing.shutdown(wait=False)
            self._reading.shutdown(wait=False)

    # --- publishing and reading, in a thread each -----------------------------------------------

    async def send(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        request: IdentifiedRequest | None = None,
        **options: Any,
    ) -> str:
        """Publish a task, after the mark of the request if one is named; return the task's id."""
        task_id = task_id or new_task_id(CALL_ID.get())
        message = Message(task, args, kwargs or {}, task_id, options, request)
        await self._messages.add(TASK_QUEUES[task], message)
        return task_id

    async def _publish(self, _: Queue, messages: list[Message]) -> Sequence[Exception | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._publishing, partial(_publish_together, self.sync, messages)
        )

    async def _read(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        ended: dict[str, Stored] = {}
        for start in range(0, len(task_ids), MAX_PER_READ):
            page = task_ids[start : start + MAX_PER_READ]
            ended |= await self._in_reader(partial(self.sync.read_results, page))
        return ended

    async def known(self, kind: LookupKind, ids: Sequence[Any]) -> dict[Any, Any]:
        """Return what Redis knows about ids, for lookups that a worker need not answer."""
        if kind.task is TaskName.STATUS:
            return await self._in_reader(partial(self.sync.known_requests, ids))
        if kind.task is TaskName.BATCH:
            read = partial(self.sync.known_batches, ids, **dict(kind.options))
            return await self._in_reader(read)
        return {}

    async def owner(self, what: Owned, identity: str, claim: str | None = None) -> str | None:
        """Return who submitted something over HTTP; see `BrokerConnection`."""
        return await self._in_reader(partial(self.sync.owner, what, identity, claim))

    async def polling_problem(self) -> PollingProblem | None:
        """Return why each poll asks a worker, if that is so; see `BrokerConnection`."""
        return await self._in_reader(self.sync.polling_problem)

    async def _read_states(self, kind: LookupKind, ids: list[str]) -> Sequence[Any]:
        known = await self.known(kind, ids)
        return [known.get(identifier) for identifier in ids]

    async def _in_reader(self, read: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, read)

    # --- waiting for a worker, without a thread -------------------------------------------------

    async def wait(
        self,
        task_id: str,
        seconds: float,
        hint: str,
        check: Callable[[float], Coroutine[Any, Any, None]],
        check_seconds: float,
    ) -> Any:
        """Wait for the result of a task; see `BrokerConnection.wait`."""
        started = time.monotonic()
        next_check = check_seconds
        with self._results.awaiting(task_id) as stored:
            while not stored.done():
                waited = time.monotonic() - started
                if waited >= seconds:
                    raise not_answered(seconds, hint)
                if waited >= next_check:
                    await _unless_done(stored, check(seconds - waited))
                    next_check = time.monotonic() - started + check_seconds
                else:
                    pause = min(seconds - waited, next_check - waited, LONGEST_PAUSE)
                    await asyncio.wait([stored], timeout=pause)
            return outcome_of(stored.result(), seconds, hint)

    async def ask(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        hint: str = LOOKUP_HINT,
        expires: bool = True,
    ) -> Any:
        """Send a lookup and return its result; see `BrokerConnection.ask`."""
        check_timeout(timeout)
        task_id = new_task_id(CALL_ID.get())

        async def send(seconds_left: float) -> None:
            options = expiry(seconds_left if expires else None)
            await self.send(task, args, kwargs, task_id=task_id, **options)

        await send(timeout)
        result = await self.wait(task_id, timeout, hint, send, repeat_after(task, timeout))
        return parse_result(task, result)

    async def look_up(self, kind: LookupKind, identifier: Any, seconds: float) -> Any:
        """Return what Redis knows about an id, or else what a worker answers.

        Calls at the same time share reads of Redis and messages.
        """
        if kind.task in _POLLS:
            state = await self._states.add(kind, identifier)
            if state is not None:
                return state
        return await self.ask_worker(kind, identifier, seconds)

    async def ask_worker(self, kind: LookupKind, identifier: Any, seconds: float) -> Any:
        """Return what a worker answers about one id; calls at the same time share messages."""
        try:
            async with asyncio.timeout(seconds if seconds < self.timeout else None):
                return await self._lookups.add(kind, identifier)
        except TimeoutError:
            raise not_answered(seconds, LOOKUP_HINT) from None

    async def _answer(self, kind: LookupKind, ids: list[Any]) -> Sequence[Any]:
        """Return the answers about these ids; an id that cannot be looked up harms no other."""
        results: list[Any] = []
        for start in range(0, len(ids), kind.page):
            results += await self._answer_page(kind, ids[start : start + kind.page])
        return results

    async def _answer_page(self, kind: LookupKind, ids: list[Any]) -> Sequence[Any]:
        try:
            answers: Sequence[Any] = await self.ask(
                kind.task, [ids], dict(kind.options), timeout=self.timeout
            )
        except (BrokerUnavailable, NoWorkerAnswered) as error:
            return [one_of(error) for _ in ids]
        except Exception as error:  # noqa: BLE001 - the call with this id raises it
            # Half of the ids may do: the answer about all of them may be too large.
            if len(ids) == 1:
                return [error]
            middle = len(ids) // 2
            halves = (ids[:middle], ids[middle:])
            return [a for half in halves for a in await self._answer_page(kind, half)]
        return answers


async def _unless_done(stored: "asyncio.Future[Stored]", check: Coroutine[Any, Any, None]) -> None:
    """Run a check until it ends, or until the result that is waited for is there."""
    checking = asyncio.create_task(check)
    waited_for: list[asyncio.Future[Any]] = [stored, checking]
    try:
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            await checking  # Raises its error.
    finally:
        checking.cancel()


def _publish_together(
    connection: BrokerConnection, messages: Sequence[Message]
) -> list[Exception | None]:
    """Publish messages, and return the error of each that cannot be written as JSON."""
    errors: list[Exception | None] = []
    requests = [message.request for message in messages if message.request is not None]
    moments: Mapping[str, datetime] = {}
    if requests:
        known_ids = [request.id for request in requests if request.has_own_id]
        moments = connection.mark_requests([request.id for request in requests], known_ids)
    with connection.sending_together() as producer:
        for task, args, kwargs, task_id, options, request in messages:
            headers = moment_headers(moments.get(request.id) if request else None)
            more = {"producer": producer, "headers": headers, **options}
            try:
                connection.send(task, args, kwargs, task_id=task_id, **more)
                errors.append(None)
            except EnrollmentError:
                raise
            except Exception as error:  # noqa: BLE001 - it is the error of this message alone
                errors.append(error)
    return errors
