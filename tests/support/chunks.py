"""Build chunks and apply them as a worker does, and read the counts of their batch."""

from typing import Any

from producer.contract.batches import BatchStatus
from producer.contract.chunks import Chunk
from producer.schemas import Kind
from worker.batches import apply
from worker.batches.apply import ChunkOutcome
from worker.batches.status import batch_statuses
from worker.database.engine import Database


def apply_chunk(database: Database, kind: Kind, chunk: Chunk) -> ChunkOutcome:
    """Apply a chunk as a worker gets it: as text."""
    return apply.apply_chunk(database, kind, chunk.model_dump_json()).outcome


def chunk(*records: Any, batch_id: str = "b", number: int = 0, **fields: Any) -> Chunk:
    return Chunk(batch_id=batch_id, number=number, records=records, **{"last": True, **fields})


def pairs(student: str, *courses: str, **fields: Any) -> dict[str, Any]:
    return {"student_id": student, "course_ids": list(courses), "atomic": False, **fields}


def status(database: Database, batch_id: str = "b") -> BatchStatus:
    return batch_statuses(database, [batch_id], {}, refusals=True)[0]


def books(database: Database, batch_id: str = "b") -> dict[str, int]:
    found = status(database, batch_id).books.model_dump()
    received = found["received"]
    assert received == sum(found.values()) - received
    return {name: count for name, count in found.items() if count}
