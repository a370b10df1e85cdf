"""The published face of the service: every message and answer that crosses the queue.

Nothing of ours may be imported here. Names, fields and codes are a contract with systems in
other languages: they are added to, never renamed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.functional_validators import AfterValidator
from pydantic.json_schema import SkipJsonSchema

MAX_KEY: Final = 2**31 - 1
MAX_COURSES: Final = 100
MAX_TEXT: Final = 255
MAX_REQUEST_ID: Final = 128
MAX_LOOKUP: Final = 1_000
MAX_CHUNK_RECORDS: Final = 10_000
MAX_COLUMNS: Final = 1_000
MAX_CHUNK_BYTES: Final = 1_048_576
"""The largest chunk that a client publishes, as JSON in ASCII; larger ones are halved."""

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of a message; a chunk of 1 MiB of text, in quotes and in base64, is less than that."""


class Queue(StrEnum):
    """The three queues; one worker serves all of them unless told otherwise."""

    ENROLLMENTS = "enrollments"
    BATCHES = "batches"
    LOOKUPS = "lookups"


class TaskName(StrEnum):
    """The fixed names under which any Celery client in any language can publish."""

    ENROLL = "enrollment.enroll"
    ENROLL_BATCH = "enrollment.enroll_batch"
    UPSERT_STUDENTS = "roster.upsert_students"
    UPSERT_COURSES = "roster.upsert_courses"
    STATUS = "enrollment.status"
    RESULTS = "enrollment.results"
    STUDENT = "enrollment.student"
    BATCH = "enrollment.batch"
    CHUNKS = "enrollment.chunks"
    REFUSALS = "enrollment.refusals"
    HEALTH = "enrollment.health"


QUORUM: Final = {"x-queue-type": "quorum"}
"""The arguments with which the queues are declared where RabbitMQ is the broker."""

TASK_QUEUES: Final[Mapping[TaskName, Queue]] = {
    TaskName.ENROLL: Queue.ENROLLMENTS,
    TaskName.ENROLL_BATCH: Queue.BATCHES,
    TaskName.UPSERT_STUDENTS: Queue.BATCHES,
    TaskName.UPSERT_COURSES: Queue.BATCHES,
    TaskName.STATUS: Queue.LOOKUPS,
    TaskName.RESULTS: Queue.LOOKUPS,
    TaskName.STUDENT: Queue.LOOKUPS,
    TaskName.BATCH: Queue.LOOKUPS,
    TaskName.CHUNKS: Queue.LOOKUPS,
    TaskName.REFUSALS: Queue.LOOKUPS,
    TaskName.HEALTH: Queue.LOOKUPS,
}


class Kind(StrEnum):
    """What the records of a batch are."""

    STUDENTS = "students"
    COURSES = "courses"
    ENROLLMENTS = "enrollments"


KIND_TASKS: Final[Mapping[Kind, TaskName]] = {
    Kind.STUDENTS: TaskName.UPSERT_STUDENTS,
    Kind.COURSES: TaskName.UPSERT_COURSES,
    Kind.ENROLLMENTS: TaskName.ENROLL_BATCH,
}


class Code(StrEnum):
    """Why a request, or a part of it, was refused."""

    UNKNOWN_STUDENT = "unknown_student"
    UNKNOWN_COURSE = "unknown_course"
    INVALID_REQUEST = "invalid_request"
    REQUEST_ID_REUSED = "request_id_reused"
    NOT_PROCESSED = "not_processed"


CODE_MEANINGS: Final[Mapping[Code, str]] = {
    Code.UNKNOWN_STUDENT: "no such student; submit the students first",
    Code.UNKNOWN_COURSE: "no such course; submit the courses first",
    Code.INVALID_REQUEST: "the record breaks the contract; mend the field that is named",
    Code.REQUEST_ID_REUSED: "this request id was used before for another content; use a new one",
    Code.NOT_PROCESSED: "a fault of the system; it is kept as a dead letter, tell the operator",
}


Key = Annotated[int, Field(strict=True, ge=1, le=MAX_KEY)]
NO_NUL: Final = r"^[^\x00]*$"
"""PostgreSQL stores every character but this one."""
Text = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_TEXT, pattern=NO_NUL)
]
RequestId = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_REQUEST_ID, pattern=NO_NUL)
]
Identifier = Annotated[Text | Key, Field(union_mode="left_to_right")]
"""An integer is our primary key, a string is the upstream SIS id; never one for the other."""


def _fold(course_ids: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return course_ids if len(course_ids) == 1 else tuple(dict.fromkeys(course_ids))


CourseIds = Annotated[
    tuple[Identifier, ...], Field(min_length=1, max_length=MAX_COURSES), AfterValidator(_fold)
]
"""Duplicates are folded, the order is kept."""


class Message(BaseModel):
    """Frozen data that crosses the queue; a field nobody knows is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StudentEnrollmentRequest(Message):
    """One student and the courses to enroll in: the unit that succeeds or is refused."""

    student_id: Identifier = Field(description="Our key (integer) or the SIS id (string).")
    course_ids: CourseIds = Field(description="1 to 100 courses, in order.")
    request_id: RequestId | None = Field(
        None, description="The submitter's own id; when absent, the Celery task id is used."
    )
    atomic: Annotated[bool, Field(strict=True)] = Field(
        True, description="True: one bad course refuses all. False: the good ones are kept."
    )


class StudentRecord(Message):
    """A student as upstream knows it; written by SIS id."""

    sis_id: Text = Field(description="The upstream system's own identifier.")
    name: Text | None = Field(None, description="Absent: what is stored is kept.")
    email: Text | None = Field(None, description="Absent: what is stored is kept.")


class CourseRecord(Message):
    """A course as upstream knows it; written by SIS id."""

    sis_id: Text = Field(description="The upstream system's own identifier.")
    title: Text | None = Field(None, description="Absent: what is stored is kept.")


KIND_MODELS: Final[Mapping[Kind, type[Message]]] = {
    Kind.STUDENTS: StudentRecord,
    Kind.COURSES: CourseRecord,
    Kind.ENROLLMENTS: StudentEnrollmentRequest,
}


class EnrollmentProblem(Message):
    """One reason for a refusal."""

    code: Code = Field(description="Stable and lower case, for machines.")
    message: str = Field(description="A sentence for a person.")
    course_id: int | str | None = Field(None, description="The course it is about, as asked.")
    field: str | None = Field(None, description="The field it is about, as course_ids[3].")
    line: int | None = Field(None, description="The line of the submitted file, from 1.")


class EnrolledCourse(Message):
    """A course that the student is enrolled in after the request."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title, where upstream gave one.")
    added: bool = Field(description="True if this request wrote the row, false if it was there.")


class StudentEnrollmentResponse(Message):
    """The stored outcome of one request."""

    request_id: str = Field(description="The request's identity.")
    student_id: int | str | None = Field(description="As asked; null if it could not be read.")
    status: Literal["enrolled", "partial", "rejected"] = Field(description="What became of it.")
    enrolled_courses: tuple[EnrolledCourse, ...] = Field((), description="In the order asked.")
    errors: tuple[EnrollmentProblem, ...] = Field((), description="Why it was not all done.")
    batch_id: str | None = Field(None, description="The batch that it came with.")
    completed_at: datetime = Field(description="When it was decided, in UTC.")


class StudentCourse(Message):
    """A course in a student's record."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title, where upstream gave one.")
    enrolled_at: datetime = Field(description="When the row was written, in UTC.")


class StudentResponse(Message):
    """A student with its courses."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    name: str | None = Field(description="The student's name, where upstream gave one.")
    email: str | None = Field(description="The e-mail address, where upstream gave one.")
    courses: tuple[StudentCourse, ...] = Field(description="Ordered by SIS id.")


class RequestStatus(Message):
    """Where a request stands; `unknown` means that nobody submitted it."""

    request_id: str = Field(description="The id that was asked about.")
    state: Literal["unknown", "queued", "running", "done"] = Field(description="Where it stands.")
    result: StudentEnrollmentResponse | None = Field(None, description="Present when done.")


Cells = tuple[Annotated[str, StringConstraints(pattern=NO_NUL)], ...]


class RefusedLine(Message):
    """A line that the submitter itself could not turn into a record."""

    line: Annotated[int, Field(strict=True, ge=1)] = Field(description="From 1.")
    message: Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)] = Field(
        description="What is wrong and what to do."
    )
    field: Text | None = Field(None, description="The column or field it is about.")
    cells: Cells | None = Field(None, description="The line as it stands in the CSV file.")


Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]


class Tally(Message):
    """How much of a batch: requests (or roster records), and the rows that they stand for."""

    requests: Count = Field(0, description="Requests, or roster records.")
    rows: Count = Field(0, description="Student-course pairs, or roster records.")


def _records() -> Any:
    return Field(
        (), max_length=MAX_CHUNK_RECORDS, description="Requests or roster records, in their order."
    )


class Chunk(Message):
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
        if given not in (None, len(self.rows)) and given != sum(self.rows):
            raise ValueError("lines must have an entry for each record, or one for each row")
        if self.cells is not None and len(self.cells) != len(self.lines or ()):
            raise ValueError("cells must have an entry for each of the lines")
        return self

    @property
    def each(self) -> Sequence[Any]:
        """The records one by one, in whatever form they came."""
        return self.records

    @cached_property
    def rows(self) -> list[int]:
        """How many rows each record stands for in the batch's books."""
        return list(map(count_rows, self.each))

    def tally(self) -> Tally:
        """What this chunk adds to the batch's books."""
        refused = len(self.refused)
        return Tally(requests=len(self.rows) + refused, rows=sum(self.rows) + refused)


_Either = Field(union_mode="left_to_right")
"""A record as its model if it keeps the contract, else as it came."""


class AnyColumns(Message):
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


class RequestColumns(AnyColumns):
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
    requests: Annotated[RequestColumns | SkipJsonSchema[AnyColumns], _Either] | None = Field(
        None, description="Requests as columns; then there are no records."
    )

    @model_validator(mode="after")
    def _have_one_form(self) -> Self:
        if self.requests is not None and self.records:
            raise ValueError("there must be either records or requests")
        return self

    @cached_property
    def each(self) -> Sequence[Any]:
        """The requests one by one; as they came where one breaks the contract."""
        columns = self.requests
        if columns is None:
            return self.records
        requests = zip(columns.student_ids, columns.course_ids, strict=True)
        if isinstance(columns, RequestColumns):
            return [
                StudentEnrollmentRequest.model_construct(
                    student_id=student_id, course_ids=courses, atomic=columns.atomic
                )
                for student_id, courses in requests
            ]
        names = ("student_id", "course_ids", "atomic")
        return [dict(zip(names, (*request, columns.atomic), strict=True)) for request in requests]

    @cached_property
    def rows(self) -> list[int]:
        """How many rows each request stands for in the batch's books."""
        if isinstance(self.requests, RequestColumns):
            return list(map(len, self.requests.course_ids))
        return list(map(count_rows, self.each))


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


class Books(Message):
    """A batch's accounts in rows: `received` is always the sum of all the others."""

    received: int = Field(0, description="The sum of all that follows.")
    enrolled: int = Field(0, description="Written to student_courses by this batch.")
    already_enrolled: int = Field(0, description="Were there before.")
    upserted: int = Field(0, description="Roster records that were added or changed.")
    unchanged: int = Field(0, description="Roster records that were equal to what is stored.")
    rejected: int = Field(0, description="Refused; the refusals say why.")
    not_applied: int = Field(0, description="No worker has committed them yet.")


class RefusalGroup(Message):
    """All refusals of a batch for one cause."""

    code: Code = Field(description="The cause.")
    message: str = Field(description="What the code means and what to do.")
    count: int = Field(description="How many refusals.")
    first_lines: tuple[int, ...] = Field(description="The first lines, in order.")
    example: str = Field(description="The message of the first of them.")


class BatchStatus(Message):
    """Where a batch stands."""

    batch_id: str = Field(description="The id that was asked about.")
    state: Literal["unknown", "queued", "running", "stalled", "done"] = Field(
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


class AppliedChunks(Message):
    """What a batch has applied of the chunks that were asked about."""

    kind: Kind | None = Field(None, description="Of the batch; null if nothing was applied.")
    fingerprints: tuple[int | None, ...] = Field(
        description="The fingerprint of each chunk that was applied, else null; as asked."
    )


class RefusedRecord(Message):
    """A refusal with what was submitted, to be mended and submitted again."""

    id: int = Field(description="Where it stands in the list: ask for those after it.")
    line: int = Field(description="The line of the submitted file, from 1.")
    code: Code = Field(description="The cause.")
    message: str = Field(description="A sentence for a person.")
    record: Any = Field(None, description="The record, or the part of it that was refused.")
    cells: tuple[str, ...] | None = Field(None, description="The line of the CSV file.")


class DatabaseState(StrEnum):
    """How a worker finds its database."""

    READY = "ready"
    AWAY = "away"
    OUTDATED = "outdated"
    """It has not the migrations that this worker needs."""


class WorkerHealth(Message):
    """What a worker says of itself."""

    version: str = Field(description="Its version.")
    now: datetime = Field(description="What its clock says.")
    database: DatabaseState = Field(description="How it finds its database.")
    detail: str = Field("", description="The same in words, for a person.")


RequestIds = Annotated[list[RequestId], Field(max_length=MAX_LOOKUP)]
Identifiers = Annotated[list[Identifier], Field(max_length=MAX_LOOKUP)]
Numbers = Annotated[
    list[Annotated[int, Field(strict=True, ge=0, lt=2**63)]], Field(max_length=MAX_LOOKUP)
]
Limit = Annotated[int, Field(strict=True, ge=1, le=MAX_LOOKUP)]
Place = tuple[datetime, str]
"""`completed_at` and `request_id` of an outcome: only older ones are asked for."""

ANSWERS: Final[Mapping[TaskName, Any]] = {
    TaskName.ENROLL: StudentEnrollmentResponse,
    TaskName.STATUS: list[RequestStatus],
    TaskName.BATCH: list[BatchStatus],
    TaskName.CHUNKS: AppliedChunks,
    TaskName.REFUSALS: list[RefusedRecord],
    TaskName.RESULTS: list[list[StudentEnrollmentResponse]],
    TaskName.STUDENT: list[StudentResponse | None],
    TaskName.HEALTH: WorkerHealth,
}
"""What is stored as the result of each task that has one, in the order of what was asked."""


def _is_moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Word = str | None
_Empty = Annotated[list[Any] | dict[str, Any], Field(max_length=0)] | None
_Few = Annotated[int, Field(ge=0, le=1000)] | None
_TaskId = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_REQUEST_ID, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class MessageHeaders(BaseModel):
    """The headers of Celery's message protocol 2, as far as a worker reads them.

    What would make it do more than the task, or do it later, is not for strangers.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    task: str = Field(description="The fixed name of a task.")
    id: _TaskId = Field(description="The task's id; the key of its answer ends with it.")
    expires: Annotated[str, AfterValidator(_is_moment)] | None = Field(
        None, description="Of a lookup: the moment from which on nobody waits for the answer."
    )
    ignore_result: bool | None = Field(None, description="True: no answer is stored.")
    timelimit: Annotated[list[None], Field(max_length=2)] | None = None
    eta: None = None
    chord: None = None
    compression: None = None
    stamped_headers: _Empty = None
    stamps: _Empty = None
    group_index: _Few = None
    retries: _Few = None
    replaced_task_nesting: _Few = None
    group: _Word = None
    root_id: _Word = None
    parent_id: _Word = None
    shadow: _Word = None
    origin: _Word = None
    lang: _Word = None
    meth: _Word = None
    argsrepr: _Word = None
    kwargsrepr: _Word = None


class Submission(Message):
    """What a client leaves in Redis beside the queue, so that `queued` can be told from `unknown`.

    Stored as JSON under `enrollment:request:ID` or `enrollment:batch:ID`, for seven days. It is a
    hint: what is finished is known without it.
    """

    state: Literal["queued", "running"] = Field("queued", description="As far as it got.")
    kind: Kind | None = Field(None, description="Of a batch: what its records are.")
    tally: Tally = Field(Tally(), description="Of a batch: what was published so far.")
    chunks: int = Field(0, description="Of a batch: how many were published so far.")
    complete: bool = Field(False, description="Of a batch: nothing is still to be published.")


SUBMISSION_TTL: Final = 7 * 24 * 3600
"""Seconds for which a submission can be told from an unknown id without having been applied."""


def request_key(request_id: str) -> str:
    """The Redis key of a request's `Submission`."""
    return f"enrollment:request:{request_id}"


def batch_key(batch_id: str) -> str:
    """The Redis key of a batch's `Submission`; a request may have the same id."""
    return f"enrollment:batch:{batch_id}"


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


_RULES: Final[Mapping[str, str]] = {
    "student_id": f"must be our key (an integer from 1 to {MAX_KEY})"
    f" or the SIS id (a string of 1 to {MAX_TEXT} characters)",
    "course_ids": f"must be a list of 1 to {MAX_COURSES} courses",
    "request_id": f"must be a string of 1 to {MAX_REQUEST_ID} characters",
    "atomic": "must be true or false",
    "batch_id": f"must be a string of 1 to {MAX_REQUEST_ID} characters",
    "number": f"must be an integer from 0 to {MAX_KEY}",
    "last": "must be true or false",
    "records": f"must be a list of at most {MAX_CHUNK_RECORDS} records",
    "refused": f"must be a list of at most {MAX_CHUNK_RECORDS} refused lines",
    **dict.fromkeys(
        ("sis_id", "name", "email", "title"), f"must be a string of 1 to {MAX_TEXT} characters"
    ),
}


_NO_TEXT: Final[Mapping[str, str]] = {
    "string_pattern_mismatch": "must not contain the character NUL",
    "string_unicode": "must be text; a lone surrogate is none",
}


def explain(error: ValidationError) -> tuple[EnrollmentProblem, ...]:
    """One problem for each field that breaks the contract, with its place and the rule."""
    problems: dict[str, EnrollmentProblem] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # Not empty, but every element is bad: each has its own problem.
        name, *rest = detail["loc"] or ("",)
        place = _plain(str(name))
        element = rest[0] if rest and isinstance(rest[0], int) else None
        if element is not None:
            place = f"{place}[{element}]"
        message = _sentence(detail, str(name), within=element is not None)
        problem = EnrollmentProblem(
            code=Code.INVALID_REQUEST,
            message=f"{place}: {message}" if place else message,
            field=place or None,
        )
        if place not in problems or detail["type"] in ("value_error", *_NO_TEXT):
            problems[place] = problem  # Of an id's two forms, the rule that says more.
    return tuple(problems.values())


def _sentence(detail: Any, name: str, *, within: bool) -> str:
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is no field of the contract; remove it"
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return f"must be a JSON object, not {_shown(detail['input'])}"
        case "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        case "string_pattern_mismatch" | "string_unicode" as kind:
            return _NO_TEXT[kind]
    known = "student_id" if within and name == "course_ids" else name
    rule = _RULES.get(known, "must be as the contract says")
    return f"{rule}, not {_shown(detail['input'])}"


def _plain(text: str) -> str:
    """Text that every database, terminal and log can take, cut to the length of a field."""
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT]


def _shown(value: object, longest: int = 60) -> str:
    if isinstance(value, list | tuple) and len(value) > MAX_COURSES:
        return f"a list of {len(value)}"
    try:
        text = json.dumps(value, default=repr)
    except ValueError:  # An integer of more digits than Python prints.
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= longest else text[: longest - 3] + "..."
