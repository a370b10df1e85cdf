"""Define the response bodies that only HTTP has."""

from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from producer.contract.batches import BatchStatus
from producer.contract.plans import PlannedDrop
from producer.publishing.batches import SubmittedBatch
from producer.schemas import Code, Kind, RequestState, StudentEnrollmentResponse


class Accepted(BaseModel):
    """An accepted request, with the URL of its status."""

    request_id: str
    state: RequestState
    url: str


class PackageBatch(BaseModel):
    """The batch of one file of a package, with the URL of its status."""

    batch_id: str
    kind: Kind
    file: str
    requests: int
    rows: int
    url: str


class AcceptedBatch(BaseModel):
    """An accepted batch, with the URL of its status; all of its chunks are published.

    `notices` say how the file was understood, where that may not be what was meant. `not_in_file`
    counts the current enrollments that a complete export does not name; it is null for other files,
    and if they could not be counted. For a package of several files, `batches` are those of its
    files, in the order in which they are applied, and the accepted batch is the last of them. If
    it is planned, `plan_url` is that of its plan.
    """

    batch_id: str
    kind: Kind
    requests: int
    rows: int
    url: str
    notices: tuple[str, ...] = ()
    not_in_file: int | None = None
    batches: tuple[PackageBatch, ...] = ()
    plan_id: str | None = None
    plan_url: str | None = None

    @classmethod
    def of(
        cls, batch: SubmittedBatch, notices: tuple[str, ...], not_in_file: int | None = None
    ) -> Self:
        """Return the body for a batch of which all chunks are published."""
        return cls(
            batch_id=batch.batch_id,
            kind=batch.kind,
            requests=batch.tally.requests,
            rows=batch.tally.rows,
            url=_url(batch),
            notices=notices,
            not_in_file=not_in_file,
            plan_id=batch.plan_id,
            plan_url=None if batch.plan_id is None else f"/plans/{quote(batch.plan_id, safe='')}",
        )

    @classmethod
    def of_package(
        cls,
        batches: Sequence[tuple[SubmittedBatch, str]],
        notices: tuple[str, ...],
        not_in_file: int | None = None,
    ) -> Self:
        """Return the body for the batches of a package, each with the name of its file."""
        accepted = cls.of(batches[-1][0], notices, not_in_file)
        accepted.batches = tuple(
            PackageBatch(
                batch_id=batch.batch_id,
                kind=batch.kind,
                file=file,
                requests=batch.tally.requests,
                rows=batch.tally.rows,
                url=_url(batch),
            )
            for batch, file in batches
        )
        return accepted


def _url(batch: SubmittedBatch) -> str:
    return f"/batches/{quote(batch.batch_id, safe='')}"


class Results(BaseModel):
    """A page of a student's results; `next` is the cursor of the next page."""

    results: list[StudentEnrollmentResponse]
    next: str | None = None


class BatchList(BaseModel):
    """A page of the list of batches, the newest first; `next` is the cursor of the next page."""

    batches: tuple[BatchStatus, ...]
    next: str | None = None


class PlannedDrops(BaseModel):
    """A page of planned drops; `next` is the cursor of the next page, null after the last one."""

    drops: tuple[PlannedDrop, ...]
    next: str | None = None


class RefusedLineToCorrect(BaseModel):
    """A refusal of a line of a batch; a line with several mistakes has several."""

    line: int = Field(description="The line of the submitted file, counted from 1.")
    code: Code = Field(description="The cause.")
    field: str | None = Field(
        description="Our column, or the field, that is wrong; null if it is the line as a whole."
    )
    message: str = Field(description="What is wrong with the line.")
    rule: str = Field(
        description="The message without the value, which is the same for all lines with this"
        " mistake."
    )
    cells: tuple[str, ...] | None = Field(
        description="Its cells, in the order of `columns`; null if they are not known. NUL and each"
        " byte that is not text are two noncharacters, as in `RefusedRecord`."
    )
    record: Any = Field(description="The record, or its part in the line; null if there is none.")
    student_id: Any = Field(description="The student whom the record names.")
    meant: Mapping[str, str] = Field(
        default={},
        description="For an unknown student or course, the SIS id in the roster that each unknown"
        " one of the record probably means.",
    )


class RefusedLines(BaseModel):
    """A page of the refused lines of a batch, and how its file was submitted."""

    columns: tuple[str, ...] | None = Field(
        description="The header of a CSV file; null for JSON Lines."
    )
    mapping: Mapping[str, str] | None = Field(
        description="The template that each of our columns was mapped to; null if none was."
    )
    drop: bool = Field(description="Whether every line was submitted as a drop.")
    format: str | None = Field(
        default=None,
        description="The format of the other system from which the file comes; null for our own"
        " columns.",
    )
    sections_are_one: bool = Field(
        default=False, description="Whether several sections were submitted as one course."
    )
    moments_from_file: bool = Field(
        default=False, description="Whether each line counts when its file says it was changed."
    )
    sources: Mapping[str, tuple[str, ...]] = Field(
        default={},
        description="For such a format, the columns that each of ours is made from; the first with"
        " text counts.",
    )
    lines: tuple[RefusedLineToCorrect, ...]
    next: str | None = Field(description="The cursor of the next page; null if nothing follows.")


class Health(BaseModel):
    """The health of the service."""

    status: str
