"""Define the chunk: the part of a batch that travels as one message."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema

from producer.schemas import (
    MAX_CHUNK_RECORDS,
    MAX_COLUMNS,
    MAX_KEY,
    NO_NUL,
    ContractModel,
    CourseIds,
    CourseRecord,
    Identifier,
    Kind,
    RequestId,
    StudentEnrollmentRequest,
    StudentRecord,
    Text,
)

KIND_MODELS: Final[Mapping[Kind, type[ContractModel]]] = {
    Kind.STUDENTS: StudentRecord,
    Kind.COURSES: CourseRecord,
    Kind.ENROLLMENTS: StudentEnrollmentRequest,
}


Cells = tuple[Annotated[str, StringConstraints(pattern=NO_NUL)], ...]


class RefusedLine(ContractModel):
    """A line that the submitter itself could not turn into a record."""

    line: Annotated[int, Field(strict=True, ge=1)] = Field(description="From 1.")
    message: Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)] = Field(
        description="What is wrong and what to do."
    )
    field: Text | None = Field(None, description="The column or field it is about.")
    cells: Cells | None = Field(None, description="The line as it stands in the CSV file.")


Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]


class Tally(ContractModel):
    """How much of a batch: requests (or roster records), and the rows that they stand for."""

    requests: Count = Field(0, description="Requests, or roster records.")
    rows: Count = Field(0, description="Student-course pairs, or roster records.")


def _records() -> Any:
    return Field(
        (), max_length=MAX_CHUNK_RECORDS, description="Requests or roster records, in their order."
    )


class Chunk(ContractModel):
    """The part of a batch that travels as one message and is applied in one transaction.

    Records are checked one by one when the chunk is applied, so that a bad one harms no other.
    As the argument of its task a chunk is a JSON object, or a string that holds one: the text
    of a large chunk is read in one go, where an object is walked twice on its way.
    """

    batch_id: RequestId = Field(description="The batch it belongs to.")
    number: Annotated[int, Field(strict=True, ge=0, le=MAX_KEY)] = Field(description="From 0.")
    last: Annotated[bool, Field(strict=True)] = Field(False, description="No chunk follows.")
    before: Tally = Field(Tally(), description="What the chunks before this one hold.")
    columns: Annotated[Cells, Field(max_length=MAX_COLUMNS)] | None = Field(
        None, description="The header of the CSV file that the batch was made of."
    )
    records: tuple[Any, ...] = _records()
    lines: tuple[Count, ...] | None = Field(
        None, description="The line of each record, or for requests the line of each row."
    )
    cells: tuple[Cells, ...] | None = Field(
        None, description="For each of the lines its cells, if they hold more than the record."
    )
    refused: Annotated[tuple[RefusedLine, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        (), description="Lines that could not be turned into a record."
    )

    @model_validator(mode="after")
    def _lines_fit(self) -> Self:
        given = None if self.lines is None else len(self.lines)
        if given not in (None, len(self.row_counts)) and given != sum(self.row_counts):
            raise ValueError("lines must have an entry for each record, or one for each row")
        if self.cells is not None and len(self.cells) != len(self.lines or ()):
            raise ValueError("cells must have an entry for each of the lines")
        return self

    @property
    def records_in_order(self) -> Sequence[Any]:
        """The records one by one, in whatever form they came."""
        return self.records

    @cached_property
    def row_counts(self) -> list[int]:
        """How many rows each record stands for in the batch's books."""
        return list(map(count_rows, self.records_in_order))

    def tally(self) -> Tally:
        """What this chunk adds to the batch's books."""
        refused = len(self.refused)
        return Tally(requests=len(self.row_counts) + refused, rows=sum(self.row_counts) + refused)


_Either = Field(union_mode="left_to_right")
"""A record as its model if it keeps the contract, else as it came."""


class UncheckedColumns(ContractModel):
    """Columns of which one element breaks the contract: each request is looked at by itself."""

    student_ids: Annotated[tuple[Any, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        description="The student of each request."
    )
    course_ids: Annotated[tuple[Any, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        description="The courses of each request."
    )
    atomic: Annotated[bool, Field(strict=True)] = Field(True, description="Of all of them.")

    @model_validator(mode="after")
    def _are_as_long(self) -> Self:
        if len(self.student_ids) != len(self.course_ids):
            raise ValueError("student_ids and course_ids must have an entry for each request")
        return self


class CheckedColumns(UncheckedColumns):
    """Requests without ids of their own, all alike, as columns: many are read in one go."""

    student_ids: Annotated[tuple[Identifier, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        description="The student of each request."
    )
    course_ids: Annotated[tuple[CourseIds, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        description="The courses of each request."
    )


class EnrollmentChunk(Chunk):
    """A chunk of requests, as records or as columns."""

    records: tuple[Annotated[StudentEnrollmentRequest | Any, _Either], ...] = _records()
    requests: Annotated[CheckedColumns | SkipJsonSchema[UncheckedColumns], _Either] | None = Field(
        None, description="Requests as columns; then there are no records."
    )

    @model_validator(mode="after")
    def _have_one_form(self) -> Self:
        if self.requests is not None and self.records:
            raise ValueError("there must be either records or requests")
        return self

    @cached_property
    def records_in_order(self) -> Sequence[Any]:
        """The requests one by one; as they came where one breaks the contract."""
        columns = self.requests
        if columns is None:
            return self.records
        requests = zip(columns.student_ids, columns.course_ids, strict=True)
        if isinstance(columns, CheckedColumns):
            return [
                StudentEnrollmentRequest.model_construct(
                    student_id=student_id, course_ids=courses, atomic=columns.atomic
                )
                for student_id, courses in requests
            ]
        names = ("student_id", "course_ids", "atomic")
        return [dict(zip(names, (*request, columns.atomic), strict=True)) for request in requests]

    @cached_property
    def row_counts(self) -> list[int]:
        """How many rows each request stands for in the batch's books."""
        if isinstance(self.requests, CheckedColumns):
            return list(map(len, self.requests.course_ids))
        return list(map(count_rows, self.records_in_order))


class StudentChunk(Chunk):
    """A chunk of students."""

    records: tuple[Annotated[StudentRecord | Any, _Either], ...] = _records()


class CourseChunk(Chunk):
    """A chunk of courses."""

    records: tuple[Annotated[CourseRecord | Any, _Either], ...] = _records()


KIND_CHUNKS: Final[Mapping[Kind, type[Chunk]]] = {
    Kind.STUDENTS: StudentChunk,
    Kind.COURSES: CourseChunk,
    Kind.ENROLLMENTS: EnrollmentChunk,
}


def fingerprint_of(text: str) -> int:
    """64 bits of BLAKE2b over a chunk's text, as a signed integer that SQL can hold.

    A chunk that comes again under its batch and number must have the same.
    """
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def line_request_id(batch_id: str, number: int, position: int) -> str:
    """The request id of a batch's request that brought none: batch, chunk, place in the chunk."""
    return f"{batch_id}:{number}:{position}"


def line_request_ids(batch_id: str, number: int) -> tuple[str, str]:
    """The range of the request ids that a chunk makes, compared byte by byte, without its end."""
    return f"{batch_id}:{number}:", f"{batch_id}:{number};"


def count_rows(record: Any) -> int:
    """How many rows a record stands for in a batch's books; both sides count with this.

    A request stands for its distinct courses; a roster record, and whatever cannot be read, for 1.
    """
    if isinstance(record, dict):
        courses = record.get("course_ids")
    elif isinstance(record, StudentEnrollmentRequest):
        return len(record.course_ids)
    else:
        return 1
    if not isinstance(courses, list | tuple) or len(courses) <= 1:
        return 1
    try:
        if len(set(courses)) == len(courses):
            return len(courses)
    except TypeError:
        pass  # A course that cannot be hashed is no id.
    # A key and a SIS id differ, and so do values of any two types that Python holds for equal.
    return len({(type(course), str(course)) for course in courses})
