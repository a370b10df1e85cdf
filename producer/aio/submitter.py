"""Define the half of the asynchronous client that publishes: requests, batches and files."""

import asyncio
import os
from collections.abc import (
    AsyncIterable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Self, TypeVar

from producer.aio.calls import Calls, verb
from producer.aio.connection import AsyncConnection, LookupKind
from producer.aio.records import publish_in_thread
from producer.client import EnrollmentClient
from producer.contract.file_form import FileForm
from producer.contract.routing import TaskName
from producer.errors import (
    BrokerUnavailable,
    ClientClosed,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.files.formats.comparison import Comparison
from producer.files.submitted import OpenedFile, SubmittedFile
from producer.publishing.batches import (
    MAX_QUEUED,
    OnOutage,
    OnProgress,
    SubmittedBatch,
)
from producer.publishing.connection import (
    CHECK_SECONDS,
    BrokerConnection,
    check_timeout,
    new_task_id,
)
from producer.publishing.records import Record, plain_fields
from producer.publishing.requests import (
    IdentifiedRequest,
    check_not_lost,
    refuse_single,
    with_id,
)
from producer.publishing.results import parse_result
from producer.publishing.rosters import PublishedRosters
from producer.schemas import (
    Kind,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)
from producer.submitter import FIND, connect, prefixes_of, represent

Batch = TypeVar("Batch", bound=SubmittedBatch)

STATUS = LookupKind(TaskName.STATUS)
"""Lookups of the states of requests."""


class AsyncEnrollmentSubmitter:
    """A connection for one event loop, and the verbs that publish; the client adds the reads."""

    _looks_up = False
    """Whether a worker is asked what a complete export does not name."""

    def __init__(
        self,
        broker_url: str = FIND,
        *,
        result_backend_url: str | None = None,
        timeout: float = 10.0,
        key_prefix: str | None = None,
    ) -> None:
        check_timeout(timeout)
        self._use(connect(broker_url, result_backend_url, key_prefix), timeout)

    def _use(self, connection: BrokerConnection, timeout: float) -> None:
        self._calls = Calls()
        self._rosters = PublishedRosters()
        self._connection = AsyncConnection(connection, timeout)

    @property
    def timeout(self) -> float:
        """Return the longest wait for a worker's answer, in seconds; it may be changed."""
        return self._connection.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._connection.timeout = seconds

    @property
    def shown_url(self) -> str:
        """Return the broker's URL without its password, for messages."""
        return self._connection.sync.shown_url

    @property
    def closed(self) -> bool:
        """Return whether the client was closed; then every method raises ClientClosed."""
        return self._calls.closed

    def __repr__(self) -> str:
        connection = self._connection.sync
        return represent(type(self), connection, self.timeout, closed=self.closed)

    async def __aenter__(self) -> Self:
        if self.closed:
            raise ClientClosed
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; calls that have not returned raise ClientClosed."""
        if not self.closed and self._calls.close():
            await self._connection.close()

    # --- publishing ---------------------------------------------------------------------------

    @verb
    async def submit(self, request: StudentEnrollmentRequest | Mapping[str, Any]) -> str:
        """Publish one request and return its id once the broker has it."""
        identified = with_id(request)
        await self._publish(identified, ignore_result=True)
        return identified.id

    @verb
    async def submit_all(
        self,
        requests: Sequence[StudentEnrollmentRequest | Mapping[str, Any]],
        call_ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Publish several requests, each as its own message, and return their ids."""
        refuse_single("requests", requests)
        checked = [with_id(request) for request in requests]
        prefixes = prefixes_of(call_ids, len(checked))
        await asyncio.gather(
            *(
                self._publish(request, new_task_id(call_id), ignore_result=True)
                for request, call_id in zip(checked, prefixes, strict=True)
            )
        )
        return [identified.id for identified in checked]

    async def _publish(
        self,
        identified: IdentifiedRequest,
        task_id: str | None = None,
        **options: Any,
    ) -> str:
        return await self._connection.send(
            TaskName.ENROLL,
            [plain_fields(identified.request)],
            task_id=task_id,
            request=identified,
            **options,
        )

    @verb
    async def enroll(
        self,
        request: StudentEnrollmentRequest | Mapping[str, Any],
        *,
        timeout: float | None = None,
    ) -> StudentEnrollmentResponse:
        """Publish one request and wait for its result, at most `timeout` seconds."""
        seconds = self.timeout if timeout is None else timeout
        check_timeout(seconds)
        identified = with_id(request)
        task_id = await self._publish(identified)
        hint = f"Request {identified.id} stays queued; look up its status later."
        check = partial(self._check, identified.id)
        data = await self._connection.wait(task_id, seconds, hint, check, CHECK_SECONDS)
        result: StudentEnrollmentResponse = parse_result(TaskName.ENROLL, data)
        return result

    async def _check(self, request_id: str, timeout: float) -> None:
        """Raise SubmissionLost if a worker reports within the timeout that a request is lost."""
        # A submitter may lack the right to look up; the wait itself notices a broken connection.
        with suppress(NoWorkerAnswered, LookupFailed, BrokerUnavailable):
            seconds = min(timeout, self.timeout)
            check_not_lost(await self._connection.ask_worker(STATUS, request_id, seconds))

    async def submit_batch(
        self,
        kind: Kind | str,
        records: Iterable[Record] | AsyncIterable[Record],
        *,
        batch_id: str | None = None,
        resume: bool = True,
        ordered: bool = False,
        columns: Iterable[str] | None = None,
        form: FileForm | None = None,
        file_name: str | None = None,
        submitter: str | None = None,
        moment: datetime | None = None,
        max_queued: int = MAX_QUEUED,
        wait_for_rosters: bool = True,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedBatch:
        """Publish a stream of records in chunks, with one chunk in memory at a time.

        An asynchronous iterable is read in the task that calls this method, and any other one in
        another thread, so that it may block. The callbacks run in the event loop. Four batches are
        published at the same time. If the call is cancelled, the chunks that were published stay
        so, and submitting the same records under the same `batch_id` continues.
        """
        options: dict[str, Any] = {"columns": columns, "form": form, "ordered": ordered}
        options |= {"file_name": file_name, "submitter": submitter, "moment": moment}
        options |= {"max_queued": max_queued, "wait_for_rosters": wait_for_rosters}
        options |= _in_loop(on_progress=on_progress, on_outage=on_outage)

        def publish(client: EnrollmentClient, given: Iterable[Record]) -> SubmittedBatch:
            return client.submit_batch(kind, given, batch_id=batch_id, resume=resume, **options)

        return await self._in_thread(publish, records)

    async def submit_file(
        self,
        path: str | os.PathLike[str],
        *,
        kind: Kind | str | None = None,
        maps: Mapping[str, str] | None = None,
        encoding: str | None = None,
        drop: bool = False,
        format_name: str | None = None,
        sheet: str | None = None,
        sections_are_one: bool = False,
        moments_from_file: bool = False,
        batch_id: str | None = None,
        resume: bool = True,
        file_name: str | None = None,
        submitter: str | None = None,
        max_queued: int = MAX_QUEUED,
        wait_for_rosters: bool = True,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedFile:
        """Publish a file, or the files of a package; they are read in another thread."""
        calls = _in_loop(on_progress=on_progress, on_outage=on_outage)

        def publish(client: EnrollmentClient, _: object) -> SubmittedFile:
            return client.submit_file(
                path,
                kind=kind,
                maps=maps,
                encoding=encoding,
                drop=drop,
                format_name=format_name,
                sheet=sheet,
                sections_are_one=sections_are_one,
                moments_from_file=moments_from_file,
                batch_id=batch_id,
                resume=resume,
                file_name=file_name,
                submitter=submitter,
                max_queued=max_queued,
                wait_for_rosters=wait_for_rosters,
                **calls,
            )

        return await self._in_thread(publish, ())

    async def _in_thread(
        self,
        publish: Callable[[EnrollmentClient, Iterable[Record]], Batch],
        records: Iterable[Record] | AsyncIterable[Record],
    ) -> Batch:
        """Let a synchronous client publish a batch; its verb also logs the call."""
        with self._calls.entered():
            async with self._connection.batches:
                return await publish_in_thread(
                    self._connection.sync,
                    records,
                    lambda own, given: publish(
                        _BatchClient(own, self.timeout, self._rosters, self._looks_up), given
                    ),
                )


def connection_of(client: AsyncEnrollmentSubmitter) -> AsyncConnection:
    """Return the connection of a client, for other parts of this package."""
    return client._connection  # noqa: SLF001 - users of the client need only its verbs


class _BatchClient(EnrollmentClient):
    """The synchronous client, over a connection that exists."""

    def __init__(
        self,
        connection: BrokerConnection,
        timeout: float,
        rosters: PublishedRosters,
        looks_up: bool,  # noqa: FBT001 - only this module makes one
    ) -> None:
        self._use(connection, timeout)
        self._rosters = rosters
        self._looks_up = looks_up

    def _compared(self, opened: OpenedFile) -> Comparison | None:
        return super()._compared(opened) if self._looks_up else None


def _in_loop(**callbacks: Callable[[Any], None] | None) -> dict[str, Any]:
    """Return functions for another thread that have the callbacks called in the event loop."""
    loop = asyncio.get_running_loop()
    return {
        name: None if callback is None else partial(_call_in, loop, callback)
        for name, callback in callbacks.items()
    }


def _call_in(
    loop: asyncio.AbstractEventLoop, callback: Callable[[Any], None], value: object
) -> None:
    loop.call_soon_threadsafe(callback, value)
