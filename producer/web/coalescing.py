"""Single requests that arrive together are published together, in one thread beside the loop."""

import asyncio

from producer.client import EnrollmentClient
from producer.publishing.connection import CALL_ID
from producer.schemas import StudentEnrollmentRequest

MAX_PER_PUBLISH = 200
"""Requests that are published in one go."""

_Waiting = tuple[StudentEnrollmentRequest, str | None, "asyncio.Future[str]"]


class RequestCoalescer:
    """Belongs to one event loop. While some are being published, the next ones gather."""

    def __init__(self, client: EnrollmentClient) -> None:
        self._client = client
        self._waiting: list[_Waiting] = []
        self._publishing: asyncio.Task[None] | None = None

    async def submit(self, request: StudentEnrollmentRequest) -> str:
        """The request's id, once the broker has it. Raises BrokerUnavailable."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, CALL_ID.get(), future))
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())
        return await future

    async def _publish(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:MAX_PER_PUBLISH], self._waiting[MAX_PER_PUBLISH:]
            requests = [request for request, _, _ in some]
            callers = [call_id for _, call_id, _ in some]
            try:
                ids = await asyncio.to_thread(self._client.submit_all, requests, callers)
            except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
                for _, _, future in some:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, _, future), request_id in zip(some, ids, strict=True):
                    if not future.done():
                        future.set_result(request_id)
        self._publishing = None
