"""Publish single requests that arrive at the same time together, in a thread of their own."""

import asyncio

from producer.client import EnrollmentClient
from producer.publishing.connection import CALL_ID
from producer.schemas import StudentEnrollmentRequest

MAX_PER_PUBLISH = 200
"""The largest number of requests that are published together."""

_Waiting = tuple[StudentEnrollmentRequest, str | None, "asyncio.Future[str]"]


class RequestCoalescer:
    """Collects new requests while earlier ones are being published; belongs to one event loop."""

    def __init__(self, client: EnrollmentClient) -> None:
        self._client = client
        self._waiting: list[_Waiting] = []
        self._publishing: asyncio.Task[None] | None = None

    async def submit(self, request: StudentEnrollmentRequest) -> str:
        """Publish a request and return its id once the broker has it. Raises BrokerUnavailable."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, CALL_ID.get(), future))
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())
        return await future

    async def _publish(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MAX_PER_PUBLISH], self._waiting[MAX_PER_PUBLISH:]
            requests = [request for request, _, _ in group]
            call_ids = [call_id for _, call_id, _ in group]
            try:
                ids = await asyncio.to_thread(self._client.submit_all, requests, call_ids)
            except Exception as error:  # noqa: BLE001 - every waiting caller receives the error
                for _, _, future in group:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, _, future), request_id in zip(group, ids, strict=True):
                    if not future.done():
                        future.set_result(request_id)
        self._publishing = None
