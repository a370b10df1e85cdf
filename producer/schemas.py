"""The published face of the service: every message and answer that crosses the queue.

Nothing of ours may be imported here. Names, fields and codes are a contract with systems in
other languages: they are added to, never renamed.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.functional_validators import AfterValidator

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


class Kind(StrEnum):
    """What the records of a batch are."""

    STUDENTS = "students"
    COURSES = "courses"
    ENROLLMENTS = "enrollments"


class Code(StrEnum):
    """Why a request, or a part of it, was refused."""

    UNKNOWN_STUDENT = "unknown_student"
    """The student is not in the roster."""
    UNKNOWN_COURSE = "unknown_course"
    """A course is not in the roster."""
    INVALID_REQUEST = "invalid_request"
    """The record breaks the contract."""
    REQUEST_ID_REUSED = "request_id_reused"
    """The request id was used before, for another request."""
    NOT_PROCESSED = "not_processed"
    """Deciding the request fails or kills its worker, whatever the environment."""


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


class ContractModel(BaseModel):
    """Frozen data that crosses the queue; a field nobody knows is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StudentEnrollmentRequest(ContractModel):
    """One student and the courses to enroll in: the unit that succeeds or is refused."""

    student_id: Identifier = Field(description="Our key (integer) or the SIS id (string).")
    course_ids: CourseIds = Field(description="1 to 100 courses, in order.")
    request_id: RequestId | None = Field(
        None, description="The submitter's own id; when absent, the Celery task id is used."
    )
    atomic: Annotated[bool, Field(strict=True)] = Field(
        True, description="True: one bad course refuses all. False: the good ones are kept."
    )


class StudentRecord(ContractModel):
    """A student as upstream knows it; written by SIS id."""

    sis_id: Text = Field(description="The upstream system's own identifier.")
    name: Text | None = Field(None, description="Absent: what is stored is kept.")
    email: Text | None = Field(None, description="Absent: what is stored is kept.")


class CourseRecord(ContractModel):
    """A course as upstream knows it; written by SIS id."""

    sis_id: Text = Field(description="The upstream system's own identifier.")
    title: Text | None = Field(None, description="Absent: what is stored is kept.")


class ResultStatus(StrEnum):
    """What became of a request."""

    ENROLLED = "enrolled"
    """The student is enrolled in every course that was asked for."""
    PARTIAL = "partial"
    """The student is enrolled in some of the courses; the errors are about the others."""
    REJECTED = "rejected"
    """The request was refused as a whole and changed nothing."""


class RequestState(StrEnum):
    """Where a request stands."""

    UNKNOWN = "unknown"
    """No request was submitted under this id."""
    QUEUED = "queued"
    """It was submitted, and no worker has begun with it."""
    RUNNING = "running"
    """A worker is deciding it."""
    DONE = "done"
    """It was decided, and its result is stored."""


class EnrollmentProblem(ContractModel):
    """One reason for a refusal."""

    code: Code = Field(description="Stable and lower case, for machines.")
    message: str = Field(description="A sentence for a person.")
    course_id: int | str | None = Field(None, description="The course it is about, as asked.")
    field: str | None = Field(None, description="The field it is about, as course_ids[3].")
    line: int | None = Field(None, description="The line of the submitted file, from 1.")


class EnrolledCourse(ContractModel):
    """A course that the student is enrolled in after the request."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title, where upstream gave one.")
    added: bool = Field(description="True if this request wrote the row, false if it was there.")


class StudentEnrollmentResponse(ContractModel):
    """The stored outcome of one request."""

    request_id: str = Field(description="The request's identity.")
    student_id: int | str | None = Field(description="As asked; null if it could not be read.")
    status: ResultStatus = Field(description="What became of it.")
    enrolled_courses: tuple[EnrolledCourse, ...] = Field((), description="In the order asked.")
    errors: tuple[EnrollmentProblem, ...] = Field((), description="Why it was not all done.")
    batch_id: str | None = Field(None, description="The batch that it came with.")
    completed_at: datetime = Field(description="When it was decided, in UTC.")


class EnrolledCourseRecord(ContractModel):
    """A course in a student's record."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title, where upstream gave one.")
    enrolled_at: datetime = Field(description="When the row was written, in UTC.")


class StudentResponse(ContractModel):
    """A student with its courses."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    name: str | None = Field(description="The student's name, where upstream gave one.")
    email: str | None = Field(description="The e-mail address, where upstream gave one.")
    courses: tuple[EnrolledCourseRecord, ...] = Field(description="Ordered by SIS id.")


class RequestStatus(ContractModel):
    """Where a request stands; `unknown` means that nobody submitted it."""

    request_id: str = Field(description="The id that was asked about.")
    state: RequestState = Field(description="Where it stands.")
    result: StudentEnrollmentResponse | None = Field(None, description="Present when done.")
