"""Define chunks whose requests share a reason. A worker makes them itself; no message holds one."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from producer.contract.chunks import Chunk, EnrollmentChunk
from producer.fields import Reason


class ReasonedChunk(EnrollmentChunk):
    """A chunk of requests as columns, all with one reason."""

    reason: Reason

    @cached_property
    def records_in_order(self) -> Sequence[Any]:
        """Return the requests one by one, each with the reason."""
        more = {"reason": self.reason}
        return [request.model_copy(update=more) for request in super().records_in_order]


def reason_of(chunk: Chunk) -> str | None:
    """Return the reason that all requests of a chunk share, if it has one."""
    return chunk.reason if isinstance(chunk, ReasonedChunk) else None
