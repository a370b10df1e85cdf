"""Publish single requests that arrive at the same time together, in a thread of their own."""

import asyncio

from producer.aio.coalescing import Coalescer
from producer.client import EnrollmentClient
from producer.publishing.connection import CALL_ID
from producer.schemas import StudentEnrollmentRequest

MAX_PER_PUBLISH = 200
"""The largest number of requests that are published together."""

_Request = tuple[StudentEnrollmentRequest, str | None]
"""A request, and the text that its task id begins with."""


class RequestCoalescer:
    """Collects new requests while earlier ones are being published; belongs to one event loop."""

    def __init__(self, client: EnrollmentClient) -> None:
        self._client = client
        self._requests: Coalescer[None, _Request, str] = Coalescer(
            self._publish, at_most=MAX_PER_PUBLISH
        )

    async def submit(self, request: StudentEnrollmentRequest) -> str:
        """Publish a request and return its id once the broker has it. Raises BrokerUnavailable."""
        return await self._requests.add(None, (request, CALL_ID.get()))

    async def _publish(self, _: None, group: list[_Request]) -> list[str]:
        requests = [request for request, _ in group]
        call_ids = [call_id for _, call_id in group]
        return await asyncio.to_thread(self._client.submit_all, requests, call_ids)
