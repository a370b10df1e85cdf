"""A worker in memory that decides nothing, and records what it is sent."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from producer.contract.chunks import EnrollmentChunk
from producer.contract.routing import TaskName
from producer.testing import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from producer.testing.connection import MemoryBroker


class Message(NamedTuple):
    """What a worker gets."""

    task: TaskName
    args: list[Any]
    headers: Mapping[str, Any]


class RecordingWorker:
    """Takes requests and chunks without applying them; no request or chunk is ever known."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.claims: dict[str, int | None] = {}

    def run(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: dict[str, Any],  # noqa: ARG002 - the broker passes it
        headers: Mapping[str, Any],
    ) -> Any:
        if task is TaskName.STATUS:
            return [{"request_id": request_id, "state": "unknown"} for request_id in args[0]]
        if task is TaskName.BATCH:
            return [{"batch_id": batch_id, "state": "unknown"} for batch_id in args[0]]
        if task is TaskName.CHUNKS:
            first_chunk = self.claims.get(args[0])
            return {"fingerprints": [None] * len(args[1]), "first_chunk": first_chunk}
        self.messages.append(Message(task, args, headers))
        return None

    def claim(self, batch_id: str, first_chunk: int | None) -> bool:
        if batch_id in self.claims:
            return False
        self.claims[batch_id] = first_chunk
        return True

    @property
    def requests(self) -> list[Any]:
        """Return the single requests."""
        return [message.args[0] for message in self.messages if message.task is TaskName.ENROLL]

    @property
    def chunks(self) -> list[EnrollmentChunk]:
        """Return the chunks of enrollments."""
        texts = [m.args[0] for m in self.messages if m.task is TaskName.ENROLL_BATCH]
        return [EnrollmentChunk.model_validate_json(text) for text in texts]

    def client(self) -> FakeEnrollmentClient:
        """Return a client of this worker."""
        return FakeEnrollmentClient(broker=MemoryBroker(self))

    def async_client(self) -> FakeAsyncEnrollmentClient:
        """Return an asynchronous client of this worker."""
        return FakeAsyncEnrollmentClient(broker=MemoryBroker(self))
