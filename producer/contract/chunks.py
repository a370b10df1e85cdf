"""Define the chunk: the part of a batch that travels as one message."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, Final, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema

from producer.contract.file_forms import FileForm
from producer.contract.plan_requests import PlanRequest
from producer.fields import (
    MAX_CHUNK_RECORDS,
    MAX_COLUMNS,
    MAX_COURSES,
    MAX_KEY,
    NO_NUL,
    CourseIds,
    DataSetName,
    Identifier,
    NewBatchId,
    Text,
)
from producer.schemas import (
    Action,
    ContractModel,
    CourseRecord,
    Kind,
    StudentEnrollmentRequest,
    StudentRecord,
)

KIND_MODELS: Final[Mapping[Kind, type[ContractModel]]] = {
    Kind.STUDENTS: StudentRecord,
    Kind.COURSES: CourseRecord,
    Kind.ENROLLMENTS: StudentEnrollmentRequest,
}


COURSE_FIELDS: Final[Mapping[Action, str]] = {
    Action.ENROLL: "course_ids",
    Action.DROP: "drop_course_ids",
}
"""The field of a request that holds the courses of an action."""

Cells = tuple[Annotated[str, StringConstraints(pattern=NO_NUL)], ...]


Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
"""At most 2**53, which JavaScript holds exactly; sums of such counts also fit into SQL."""


class RefusedLine(ContractModel):
    """A line of a file that the submitter could not turn into a record."""

    line: Annotated[int, Field(strict=True, ge=1, le=2**53)] = Field(
        description="The line of the submitted file, counted from 1."
    )
    message: Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)] = Field(
        description="What is wrong with the line and what to do."
    )
    field: Text | None = Field(default=None, description="The invalid column or field.")
    cells: Cells | None = Field(default=None, description="The cells of the line in the CSV file.")


class Tally(ContractModel):
    """The size of a part of a batch, in requests (or roster records) and in rows."""

    requests: Count = Field(default=0, description="The number of requests or roster records.")
    rows: Count = Field(
        default=0, description="The number of student-course pairs or roster records."
    )


def _records() -> Any:
    return Field(
        default=(),
        max_length=MAX_CHUNK_RECORDS,
        description="The requests or roster records, in the order of the batch.",
    )


class Chunk(ContractModel):
    """The part of a batch that travels as one message and is applied in one transaction.

    Records are checked one by one when the chunk is applied, so that a bad record does not affect
    the others. The argument of the task is the chunk as a JSON object, or a string that holds this
    object as JSON. A string is faster for a large chunk, because it is parsed only once.
    """

    batch_id: NewBatchId = Field(description="The batch that the chunk belongs to.")
    number: Annotated[int, Field(strict=True, ge=0, le=MAX_KEY)] = Field(
        description="The number of the chunk in its batch, counted from 0."
    )
    last: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="True for the last chunk of the batch."
    )
    before: Tally = Field(
        default=Tally(), description="The size of all earlier chunks of the batch."
    )
    ordered: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="True if each record counts later than the one before it; roster records"
        " always do.",
    )
    columns: Annotated[Cells, Field(max_length=MAX_COLUMNS)] | None = Field(
        default=None, description="The header of the submitted CSV file."
    )
    form: FileForm | None = Field(
        default=None,
        description="How the submitted CSV file is written; leave it out for commas, UTF-8 and line"
        " feeds.",
    )
    data_set: DataSetName | None = Field(
        default=None,
        description="The data set that the batch belongs to, only for enrollments; all chunks of a"
        " batch name the same one. Its name has no spaces at its ends.",
    )
    plan: PlanRequest | None = Field(
        default=None,
        description="The plan that the batch is a member of: its chunks are stored and planned"
        " before anything is applied. All chunks of a batch name the same one.",
    )
    records: tuple[Any, ...] = _records()
    lines: tuple[Count, ...] | None = Field(
        default=None,
        description="The line of each record in the submitted file; for requests that were made"
        " from several lines, the line of each row.",
    )
    cells: tuple[Cells, ...] | None = Field(
        default=None,
        description="The cells of each line in `lines`, if the lines hold more than the records.",
    )
    refused: Annotated[tuple[RefusedLine, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        default=(), description="The lines that could not be turned into records."
    )

    @model_validator(mode="after")
    def _lines_fit(self) -> Self:
        line_count = None if self.lines is None else len(self.lines)
        if line_count not in (None, len(self.row_counts)) and line_count != sum(self.row_counts):
            raise ValueError("lines must have an entry for each record, or one for each row")
        if self.cells is not None and len(self.cells) != len(self.lines or ()):
            raise ValueError("cells must have an entry for each entry of lines")
        return self

    @property
    def records_in_order(self) -> Sequence[Any]:
        """Return the records one by one, in the form in which they were sent."""
        return self.records

    @cached_property
    def row_counts(self) -> list[int]:
        """Return the number of rows that each record adds to the batch counts."""
        return list(map(count_rows, self.records_in_order))

    @cached_property
    def lines_of_records(self) -> Sequence[Sequence[int]]:
        """Return the lines of each record; without `lines`, its position in the batch, from 1."""
        if self.lines is None:
            start = self.before.requests + 1
            return [(line,) for line in range(start, start + len(self.row_counts))]
        if len(self.lines) == len(self.row_counts):
            return [(line,) for line in self.lines]
        ends = list(accumulate(self.row_counts))
        lines_by_record = [
            self.lines[end - rows : end] for end, rows in zip(ends, self.row_counts, strict=True)
        ]
        # All rows of a record may be on one line, whose number is then repeated.
        return [lines if lines[0] != lines[-1] else lines[:1] for lines in lines_by_record]

    def tally(self) -> Tally:
        """Return the size of this chunk, refused lines included."""
        refused = len(self.refused)
        return Tally(requests=len(self.row_counts) + refused, rows=sum(self.row_counts) + refused)


_Either = Field(union_mode="left_to_right")
"""Read a record as its model if it follows the contract, and as plain JSON if it does not."""


class UncheckedColumns(ContractModel):
    """Columns with an element that breaks the contract; each request is then checked on its own."""

    student_ids: Annotated[tuple[Any, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        description="The student of each request."
    )
    course_ids: Annotated[tuple[Any, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        default=(), description="The courses of each request, to enroll in."
    )
    drop_course_ids: Annotated[tuple[Any, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        default=(),
        description="The courses of each request, to drop; `course_ids` must then be empty.",
    )
    atomic: Annotated[bool, Field(strict=True)] = Field(
        default=True, description="The value of `atomic` for every request."
    )

    @model_validator(mode="after")
    def _have_equal_length(self) -> Self:
        if self.course_ids and self.drop_course_ids:
            raise ValueError("columns have either course_ids or drop_course_ids, not both")
        if len(self.student_ids) != len(self.course_ids or self.drop_course_ids):
            raise ValueError(
                "student_ids and course_ids (or drop_course_ids) must have an entry for each"
                " request"
            )
        return self

    @property
    def action(self) -> Action:
        """Return what the requests ask for."""
        return Action.DROP if self.drop_course_ids else Action.ENROLL

    @property
    def courses(self) -> tuple[Any, ...]:
        """Return the courses of each request."""
        return self.drop_course_ids or self.course_ids


class CheckedColumns(UncheckedColumns):
    """Requests as columns, which are faster to read; for requests without ids of their own."""

    student_ids: Annotated[tuple[Identifier, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        description="The student of each request."
    )
    course_ids: Annotated[tuple[CourseIds, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        default=(), description="The courses of each request, to enroll in."
    )
    drop_course_ids: Annotated[tuple[CourseIds, ...], Field(max_length=MAX_CHUNK_RECORDS)] = Field(
        default=(),
        description="The courses of each request, to drop; `course_ids` must then be empty.",
    )


class EnrollmentChunk(Chunk):
    """A chunk of requests, as records or as columns."""

    records: tuple[Annotated[StudentEnrollmentRequest | Any, _Either], ...] = _records()
    requests: Annotated[CheckedColumns | SkipJsonSchema[UncheckedColumns], _Either] | None = Field(
        default=None, description="The requests as columns; `records` must then be empty."
    )

    @model_validator(mode="after")
    def _have_one_form(self) -> Self:
        if self.requests is not None and self.records:
            raise ValueError("a chunk may have either records or requests, not both")
        return self

    @cached_property
    def records_in_order(self) -> Sequence[Any]:
        """Return the requests one by one; as plain JSON if any of them breaks the contract."""
        columns = self.requests
        if columns is None:
            return self.records
        requests = zip(columns.student_ids, columns.courses, strict=True)
        name = COURSE_FIELDS[columns.action]
        if isinstance(columns, CheckedColumns):
            return [
                StudentEnrollmentRequest.model_construct(
                    student_id=student_id, atomic=columns.atomic, **{name: courses}
                )
                for student_id, courses in requests
            ]
        names = ("student_id", name, "atomic")
        return [dict(zip(names, (*request, columns.atomic), strict=True)) for request in requests]

    @cached_property
    def row_counts(self) -> list[int]:
        """Return the number of rows that each request adds to the batch counts."""
        if isinstance(self.requests, CheckedColumns):
            return list(map(len, self.requests.courses))
        return list(map(count_rows, self.records_in_order))


class RosterChunk(Chunk):
    """A chunk of students or courses, which belong to no data set."""

    @model_validator(mode="after")
    def _has_no_data_set(self) -> Self:
        if self.data_set is not None:
            raise ValueError("data_set is only for enrollments; leave it out of chunks of a roster")
        return self


class StudentChunk(RosterChunk):
    """A chunk of students."""

    records: tuple[Annotated[StudentRecord | Any, _Either], ...] = _records()


class CourseChunk(RosterChunk):
    """A chunk of courses."""

    records: tuple[Annotated[CourseRecord | Any, _Either], ...] = _records()


KIND_CHUNKS: Final[Mapping[Kind, type[Chunk]]] = {
    Kind.STUDENTS: StudentChunk,
    Kind.COURSES: CourseChunk,
    Kind.ENROLLMENTS: EnrollmentChunk,
}


def fingerprint_of(text: str) -> int:
    """Return 64 bits of BLAKE2b over a chunk's text, as a signed integer that SQL can store.

    A chunk that is submitted again must have the same fingerprint as the first time.
    """
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def line_request_id(batch_id: str, number: int, position: int) -> str:
    """Make the id of a request that has none of its own, from its batch, chunk and position."""
    return f"{batch_id}:{number}:{position}"


def line_request_ids(batch_id: str, number: int | None = None) -> tuple[str, str]:
    """Return the range of the ids that `line_request_id` makes for a chunk, or for all of a batch.

    The ids are compared byte by byte; the end of the range is not part of it.
    """
    prefix = batch_id if number is None else f"{batch_id}:{number}"
    return f"{prefix}:", f"{prefix};"


def count_rows(record: Any) -> int:
    """Return the number of rows that a record adds to the batch counts.

    A request counts once for each distinct course of each of its lists; a roster record counts
    once, and so does anything that cannot be read. The submitter and the worker both count with
    this function.
    """
    if isinstance(record, StudentEnrollmentRequest):
        return len(record.course_ids) + len(record.drop_course_ids)
    if not isinstance(record, dict):
        return 1
    rows = _count_distinct(record.get("course_ids"))
    if "drop_course_ids" in record:
        rows += _count_distinct(record["drop_course_ids"])
    return rows or 1


def _count_distinct(courses: Any) -> int:
    if not isinstance(courses, list | tuple):
        return 0
    if len(courses) <= 1:
        return len(courses)
    if len(courses) <= MAX_COURSES:
        # A fast path for valid requests. A longer list could hold integers that were chosen to
        # share one hash; a set of them takes time that grows with the square of their number.
        try:
            if len(set(courses)) == len(courses):
                return len(courses)
        except TypeError:
            pass  # A course that cannot be hashed is not a valid id; it still counts below.
    return len(_distinct(courses))


def _distinct(courses: Sequence[Any]) -> Sequence[Any]:
    # Values of different types are different courses, even if Python calls them equal (1 == True).
    return list({(type(course), str(course)): course for course in courses}.values())


def courses_of(record: Any, action: Action) -> Sequence[Any]:
    """Return the courses that a request, or its record, names for an action: one for each row."""
    name = COURSE_FIELDS[action]
    is_parsed = isinstance(record, StudentEnrollmentRequest)
    fields = vars(record) if is_parsed else record
    courses = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(courses, list | tuple):
        return ()
    return courses if is_parsed else _distinct(courses)


def courses_in_order(record: Any) -> Sequence[Any]:
    """Return the courses of a request in the order of its rows: those to drop come last."""
    return (*courses_of(record, Action.ENROLL), *courses_of(record, Action.DROP))


def row_of(record: Any, action: Action, index: int) -> int:
    """Return the row of a request that a course is in, by its index in the list of an action."""
    name = COURSE_FIELDS[action]
    before = courses_of(record, Action.ENROLL) if action is Action.DROP else ()
    courses: Any = record.get(name) if isinstance(record, dict) else getattr(record, name)
    return len(before) + max(0, len(_distinct(courses[: index + 1])) - 1)
