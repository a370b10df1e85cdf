"""Define what a worker reports about a batch: its state, counts and refusals."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from producer.contract.file_forms import FileForm
from producer.fields import Moment, StoredId
from producer.schemas import Code, ContractModel, Kind


class Books(ContractModel):
    """The counts of a batch in rows: `received` is always the sum of all the others."""

    received: int = Field(
        default=0, description="All rows of the batch: the sum of the other counts."
    )
    enrolled: int = Field(default=0, description="Pairs that this batch wrote to student_courses.")
    already_enrolled: int = Field(
        default=0, description="Pairs that were already in student_courses."
    )
    dropped: int = Field(
        default=0, description="Pairs that this batch removed from student_courses."
    )
    not_enrolled: int = Field(
        default=0, description="Pairs to drop that were not in student_courses."
    )
    upserted: int = Field(default=0, description="Roster records that this batch added or changed.")
    unchanged: int = Field(
        default=0, description="Roster records that matched what was already stored."
    )
    superseded: int = Field(
        default=0,
        description="Pairs for which a later request asks for the opposite, and roster records"
        " whose fields later records name, too; they changed nothing.",
    )
    rejected: int = Field(default=0, description="Rows that were refused; the refusals say why.")
    not_applied: int = Field(default=0, description="Rows that have not been applied yet.")


class Cause(StrEnum):
    """How an id that does not exist differs from one that does, or why it cannot exist."""

    IN_ROSTER = "in_roster"
    """The id is in the roster by now: its record came after the line was refused."""
    LEADING_ZEROS_LOST = "leading_zeros_lost"
    """The roster has the id with leading zeros."""
    LEADING_ZEROS_ADDED = "leading_zeros_added"
    """The roster has the id with fewer leading zeros, or without any."""
    LETTER_CASE = "letter_case"
    """The roster has the id in different upper and lower case."""
    SPACES = "spaces"
    """The roster has the id with other spaces or invisible characters, usually with none."""
    LOOK_ALIKE = "look_alike"
    """The roster has the id with characters that look the same, for example another dash."""
    DECIMALS = "decimals"
    """The roster has the id without `.0` at the end."""
    SCIENTIFIC = "scientific"
    """The id is a number in scientific notation, which may have lost digits."""
    QUOTED = "quoted"
    """The roster has the id without quotation marks or an equals sign around it."""
    THOUSANDS = "thousands"
    """The roster has the id without thousands separators."""
    MISSING_VALUE = "missing_value"
    """The id stands for a missing value, for example `NULL`, `nan` or `#N/A`."""


class UnknownId(ContractModel):
    """An id that does not exist, with the ids that may have been meant."""

    id: str = Field(description="The SIS id, as it was submitted.")
    meant: tuple[str, ...] = Field(
        default=(),
        description="The SIS ids that may have been meant; if there are several, it is not known"
        " which one was.",
    )


class LikelyCause(ContractModel):
    """Refused ids that differ in the same way from ids that exist."""

    causes: tuple[Cause, ...] = Field(
        description="The differences; each of the ids has all of them."
    )
    message: str = Field(description="A sentence for people about these ids, with an example.")
    ids: int = Field(description="The number of different ids.")
    count: int = Field(description="The number of refusals with these ids.")
    examples: tuple[UnknownId, ...] = Field(default=(), description="The first of these ids.")


FIRST_LINES = 5
"""The most lines that are named for a group of refusals."""


class RefusalGroup(ContractModel):
    """All refusals of a batch that have the same cause."""

    code: Code = Field(description="The cause.")
    message: str = Field(description="What the code means and what to do.")
    count: int = Field(description="The number of refusals.")
    first_lines: tuple[int, ...] = Field(description="The lines of the first refusals, in order.")
    example: str = Field(description="The message of the first refusal.")
    likely_causes: tuple[LikelyCause, ...] = Field(
        default=(),
        description="What is probably wrong with unknown ids, the cause of the most refusals first;"
        " empty until the batch is done.",
    )
    examined: int | None = Field(
        default=None,
        description="How many of the refusals were compared with the roster to find likely causes,"
        " from the first one on; null if none were.",
    )


class BatchState(StrEnum):
    """The state of a batch."""

    UNKNOWN = "unknown"
    """Neither an applied chunk nor a mark is stored under this id."""
    QUEUED = "queued"
    """The batch has been submitted, at least in part, and none of its chunks is applied yet."""
    RUNNING = "running"
    """Some chunks of the batch have been applied."""
    STALLED = "stalled"
    """Chunks are missing and no more are arriving; `advice` says what to do."""
    DONE = "done"
    """Every chunk of the batch has been applied."""
    STAGED = "staged"
    """The batch belongs to a plan that is being stored or made; nothing is applied."""
    PLANNED = "planned"
    """A dry run that has ended: its plan can be read, and nothing is ever applied."""
    HELD = "held"
    """The batch waits for a decision about its plan; nothing is applied."""
    DISCARDED = "discarded"
    """The plan of the batch was discarded; nothing is ever applied."""


class BatchStatus(ContractModel):
    """The status of a batch: its state, counts and refusals."""

    batch_id: str = Field(description="The id that was looked up.")
    state: BatchState = Field(
        description="The state of the batch; `stalled` means that chunks are missing and no more"
        " are arriving."
    )
    advice: str | None = Field(default=None, description="What to do if something is wrong.")
    kind: Kind | None = Field(default=None, description="The kind of its records.")
    file_name: str | None = Field(
        default=None, description="The name of its file, if the submitter gave one."
    )
    submitter: str | None = Field(
        default=None,
        description="Who submitted it, as the messages of the batch say; nothing checks that.",
    )
    data_set: str | None = Field(
        default=None, description="The data set that it belongs to; null if it names none."
    )
    plan_id: str | None = Field(
        default=None, description="The plan that it is a member of; null if it was not planned."
    )
    undone_by: str | None = Field(
        default=None,
        description="The batch that undid it, or is about to; null if it was not undone, or if that"
        " undo was itself undone.",
    )
    undone_at: datetime | None = Field(default=None, description="When that undo began.")
    undoes: str | None = Field(
        default=None, description="The batch that it undid; null if it is no undo."
    )
    columns: tuple[str, ...] | None = Field(default=None, description="The header of its CSV file.")
    form: FileForm | None = Field(
        default=None,
        description="How its CSV file was written; null for commas, UTF-8 and line feeds.",
    )
    books: Books = Field(default=Books(), description="The counts of the batch, in rows.")
    requests: int = Field(
        default=0, description="The number of requests or roster records received."
    )
    requests_applied: int = Field(default=0, description="How many of these have been applied.")
    requests_rejected: int = Field(
        default=0, description="How many of these were refused as a whole."
    )
    chunks: int | None = Field(
        default=None,
        description="The number of chunks; null while the batch is still being submitted.",
    )
    chunks_applied: int = Field(
        default=0, description="The number of chunks that have been applied."
    )
    chunks_missing: int = Field(
        default=0, description="The number of known chunks not yet applied."
    )
    chunks_lost: int = Field(
        default=0,
        description="The number of missing chunks that no longer wait in the broker: submit the"
        " batch again under its id.",
    )
    chunks_failed: int = Field(
        default=0,
        description="The number of chunks that became dead letters because they could not be"
        " processed; they are counted until the dead letters are removed.",
    )
    failed_at: datetime | None = Field(
        default=None, description="When the newest of these became a dead letter."
    )
    conflicts: int = Field(
        default=0,
        description="The number of chunks of a different submission under this batch id that were"
        " refused; they are not part of the counts.",
    )
    refusals: tuple[RefusalGroup, ...] = Field(
        default=(), description="The refusals, grouped by cause."
    )
    submitted_at: datetime | None = Field(
        default=None,
        description="When the batch was submitted; null if that is unknown. Its requests count"
        " from this moment unless they name another one.",
    )
    started_at: datetime | None = Field(
        default=None, description="When the first chunk was applied."
    )
    finished_at: datetime | None = Field(
        default=None, description="When the last chunk was applied."
    )
    rows_per_second: float | None = Field(
        default=None, description="The average speed since the first chunk was applied."
    )
    seconds_left: float | None = Field(
        default=None, description="The estimated time until the rest is applied, in seconds."
    )


BatchCursor = tuple[Moment, StoredId]
"""A place in the list of batches: the moment of a batch, and its id."""


class BatchPage(ContractModel):
    """A page of the list of batches, the newest first."""

    batches: tuple[BatchStatus, ...] = Field(
        default=(),
        description="The batches, without their refusals, columns and forms. There may be fewer"
        " than the limit, or none, although more follow.",
    )
    next: BatchCursor | None = Field(
        default=None,
        description="Where the next page begins: send it as `cursor`. Null if nothing follows.",
    )


class AppliedChunks(ContractModel):
    """Which of the chunks in a lookup have been applied."""

    kind: Kind | None = Field(
        default=None, description="The kind of the batch; null if none of it has been applied."
    )
    fingerprints: tuple[int | None, ...] = Field(
        description="For each chunk in the lookup, in the same order: its fingerprint if it has"
        " been applied, else null."
    )
    first_chunk: int | None = Field(
        default=None,
        description="The fingerprint of the first chunk of the submission that has claimed the"
        " batch id; null if that is unknown.",
    )


class RefusedRecord(ContractModel):
    """A refusal with the submitted record, to be corrected and submitted again."""

    id: int = Field(
        description="The id of the refusal; with `line` it says where the next page begins."
    )
    line: int = Field(description="The line of the submitted file, counted from 1.")
    code: Code = Field(description="The cause.")
    message: str = Field(description="An explanation for people.")
    record: Any = Field(
        default=None,
        description="The record, or the part of it that was refused; null if an earlier refusal of"
        " the line has it.",
    )
    cells: tuple[str, ...] | None = Field(
        default=None,
        description="The cells of the line in a CSV file; null if an earlier refusal of the line"
        " has them. NUL and each byte that is not text are two noncharacters: U+FDD0 plus the"
        " upper four bits, then U+FDE0 plus the lower four.",
    )
    meant: Mapping[str, str] = Field(
        default={},
        description="For an unknown student or course, the SIS id in the roster that each unknown"
        " one of the record probably means; only with `whole`, and for ids that can mean only one.",
    )
