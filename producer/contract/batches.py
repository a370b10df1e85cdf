"""Define what is told about a batch: its counts, refusals and state."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from producer.schemas import Code, ContractModel, Kind


class Books(ContractModel):
    """A batch's accounts in rows: `received` is always the sum of all the others."""

    received: int = Field(0, description="The sum of all that follows.")
    enrolled: int = Field(0, description="Written to student_courses by this batch.")
    already_enrolled: int = Field(0, description="Were there before.")
    upserted: int = Field(0, description="Roster records that were added or changed.")
    unchanged: int = Field(0, description="Roster records that were equal to what is stored.")
    rejected: int = Field(0, description="Refused; the refusals say why.")
    not_applied: int = Field(0, description="No worker has committed them yet.")


class RefusalGroup(ContractModel):
    """All refusals of a batch for one cause."""

    code: Code = Field(description="The cause.")
    message: str = Field(description="What the code means and what to do.")
    count: int = Field(description="How many refusals.")
    first_lines: tuple[int, ...] = Field(description="The first lines, in order.")
    example: str = Field(description="The message of the first of them.")


class BatchState(StrEnum):
    """Where a batch stands."""

    UNKNOWN = "unknown"
    """No batch was submitted under this id."""
    QUEUED = "queued"
    """It is being submitted, and no chunk of it has been applied."""
    RUNNING = "running"
    """Some of its chunks have been applied."""
    STALLED = "stalled"
    """Something is missing, and nothing comes any more; the advice says what to do."""
    DONE = "done"
    """Every chunk has been applied."""


class BatchStatus(ContractModel):
    """Where a batch stands."""

    batch_id: str = Field(description="The id that was asked about.")
    state: BatchState = Field(
        description="Where it stands; stalled: something is missing, and nothing comes any more."
    )
    advice: str | None = Field(None, description="When something is wrong: what to do.")
    kind: Kind | None = Field(None, description="What its records are.")
    columns: tuple[str, ...] | None = Field(None, description="The header of its CSV file.")
    books: Books = Field(Books(), description="Its accounts, in rows.")
    requests: int = Field(0, description="Requests or records received.")
    requests_applied: int = Field(0, description="Those of them that were decided.")
    requests_rejected: int = Field(0, description="Those of them that were wholly refused.")
    chunks: int | None = Field(None, description="How many chunks; null while still submitting.")
    chunks_applied: int = Field(0, description="How many of them are committed.")
    chunks_missing: int = Field(0, description="How many are known of and not committed.")
    refusals: tuple[RefusalGroup, ...] = Field((), description="Grouped by cause.")
    started_at: datetime | None = Field(None, description="When its first chunk was applied.")
    finished_at: datetime | None = Field(None, description="When its last chunk was applied.")
    rows_per_second: float | None = Field(None, description="Applied since the first chunk.")
    seconds_left: float | None = Field(None, description="For what is not yet applied.")


class AppliedChunks(ContractModel):
    """What a batch has applied of the chunks that were asked about."""

    kind: Kind | None = Field(None, description="Of the batch; null if nothing was applied.")
    fingerprints: tuple[int | None, ...] = Field(
        description="The fingerprint of each chunk that was applied, else null; as asked."
    )


class RefusedRecord(ContractModel):
    """A refusal with what was submitted, to be mended and submitted again."""

    id: int = Field(description="Where it stands in the list: ask for those after it.")
    line: int = Field(description="The line of the submitted file, from 1.")
    code: Code = Field(description="The cause.")
    message: str = Field(description="A sentence for a person.")
    record: Any = Field(None, description="The record, or the part of it that was refused.")
    cells: tuple[str, ...] | None = Field(None, description="The line of the CSV file.")
