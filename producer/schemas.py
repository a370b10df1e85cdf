"""Define the heart of the public contract: requests, results, roster records and codes.

This module imports nothing else of ours. Its names, fields and codes are a contract with systems
in other languages: new ones may be added, none is ever renamed.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.functional_validators import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

MAX_KEY: Final = 2**31 - 1
MAX_COURSES: Final = 100
MAX_TEXT: Final = 255
MAX_REQUEST_ID: Final = 128
MAX_LOOKUP: Final = 1_000
MAX_LOOKUP_RESULTS: Final = 10_000
"""The most results that one lookup may ask for: its students times its limit."""
MAX_CHUNK_RECORDS: Final = 10_000
MAX_COLUMNS: Final = 1_000
MAX_CHUNK_BYTES: Final = 1_048_576
"""The largest chunk that a client publishes, in bytes of ASCII JSON; a larger one is split."""

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""The largest message that a worker accepts, in bytes: more than a 1 MiB chunk needs once it is
quoted and encoded in base64."""


class Kind(StrEnum):
    """The kind of records that a batch holds."""

    STUDENTS = "students"
    COURSES = "courses"
    ENROLLMENTS = "enrollments"


class Action(StrEnum):
    """What a request asks for a course."""

    ENROLL = "enroll"
    """The student is to be enrolled in the course."""
    DROP = "drop"
    """The student is to leave the course."""


class Code(StrEnum):
    """The reason why a request, or a part of it, was refused."""

    UNKNOWN_STUDENT = "unknown_student"
    """The student is not in the roster."""
    UNKNOWN_COURSE = "unknown_course"
    """A course is not in the roster."""
    INVALID_REQUEST = "invalid_request"
    """The record breaks the contract."""
    REQUEST_ID_REUSED = "request_id_reused"
    """The request id was already used for a different request."""
    NOT_PROCESSED = "not_processed"
    """Processing the request fails or kills the worker, even in a healthy environment."""


CODE_MEANINGS: Final[Mapping[Code, str]] = {
    Code.UNKNOWN_STUDENT: "the student is not in the roster; correct the id, or submit the student",
    Code.UNKNOWN_COURSE: "the course is not in the roster; correct the id, or submit the course",
    Code.INVALID_REQUEST: "the line or record is not valid; fix what the message names",
    Code.REQUEST_ID_REUSED: "the request id was already used for another request; use a new id",
    Code.NOT_PROCESSED: "the system failed on this record and stored it as a dead letter;"
    " contact the operator",
}


Key = Annotated[int, Field(strict=True, ge=1, le=MAX_KEY)]
NO_NUL: Final = r"^[^\x00]*$"
"""NUL is the one character that PostgreSQL cannot store."""
Text = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_TEXT, pattern=NO_NUL)
]
RequestId = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_REQUEST_ID, pattern=NO_NUL)
]
Identifier = Annotated[Text | Key, Field(union_mode="left_to_right")]
"""An integer is our primary key, a string is the upstream SIS id; neither is read as the other."""

_LINE_REQUEST_ID: Final = re.compile(r".*:[0-9]+:[0-9]+", re.DOTALL)


def is_line_request_id(request_id: str) -> bool:
    """Return whether an id has the form `BATCH:CHUNK:POSITION` of ids made for lines of batches."""
    return _LINE_REQUEST_ID.fullmatch(request_id) is not None


def _not_of_a_line(request_id: str) -> str:
    if is_line_request_id(request_id):
        raise ValueError(
            "must not end in :NUMBER:NUMBER, because such ids belong to the lines of batches;"
            " choose another id"
        )
    return request_id


Reason = Annotated[str, StringConstraints(strict=True, max_length=MAX_TEXT, pattern=NO_NUL)]
"""Free text of a submitter; it may be empty."""

FIELD_ERROR: Final = "field_of_record"
"""The type of an error that names its field in its context, because it is about several fields."""

OwnRequestId = Annotated[RequestId, AfterValidator(_not_of_a_line)]
"""A submitter's own id of a request; it can never be the id of a line in another batch."""


def _fold(course_ids: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return course_ids if len(course_ids) == 1 else tuple(dict.fromkeys(course_ids))


CourseIds = Annotated[
    tuple[Identifier, ...], Field(min_length=1, max_length=MAX_COURSES), AfterValidator(_fold)
]
"""Duplicates are removed; the order stays."""

CourseList = Annotated[tuple[Identifier, ...], Field(max_length=MAX_COURSES), AfterValidator(_fold)]
"""Like `CourseIds`, but it may be empty."""


_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)"
)
_MOMENT_EXAMPLE: Final = "2026-09-01T08:00:00Z"
FIRST_YEAR: Final = 1900
"""The first year in which a moment may lie."""


def read_moment(value: Any) -> datetime:
    """Return a moment in UTC, from a text as in ISO 8601 or from a `datetime`. Raises ValueError.

    A number is not read: it could be seconds or milliseconds.
    """
    if isinstance(value, str) and _is_shown(value):
        # The form in which our own clients write all of them: quickly.
        with suppress(ValueError):
            if (shown := datetime.fromisoformat(value)).year >= FIRST_YEAR:
                return shown
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            raise ValueError(f"must be a time that exists, not {value}") from None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        given = f", not {value!r:.40}" if isinstance(value, str | int | float) else ""
        raise ValueError(f"must be a time with its time zone, for example {_MOMENT_EXAMPLE}{given}")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or moment.year < FIRST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to 9999 in UTC")
    return moment


def _is_shown(text: str) -> bool:
    """Return whether a text has the form of `show_moment`."""
    separators = text[4:5] + text[7:8] + text[10:11] + text[26:]
    return separators == "--TZ" and text[19] == "." and text.isascii()


def show_moment(moment: datetime) -> str:
    """Return a moment as text in UTC with microseconds, as it travels in headers."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Moment = Annotated[AwareDatetime, BeforeValidator(read_moment)]
"""The point in time at which a request or roster record counts, in UTC with microseconds."""

_AS_OF = (
    " a time with its time zone, at most five minutes ahead of the system's clock. If absent, the"
    " time of submission."
)
_ROSTER_AS_OF = (
    f"When the record counts:{_AS_OF} Of two values of one field, the one with the later time wins,"
    " whichever arrives first."
)


class ContractModel(BaseModel):
    """Frozen data that crosses the queue; an unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StudentEnrollmentRequest(ContractModel):
    """One student, the courses to enroll in and those to drop; it succeeds or is refused."""

    student_id: Identifier = Field(
        description="The student, by our key (an integer) or by SIS id (a string)."
    )
    course_ids: CourseList = Field(
        default=(),
        description="The courses to enroll in, each by our key (an integer) or by SIS id (a"
        " string). With `drop_course_ids`, a request names 1 to 100 courses.",
    )
    drop_course_ids: CourseList = Field(
        default=(),
        description="The courses to drop; none of them may be in `course_ids`. A course that the"
        " student is not enrolled in may be dropped, too.",
    )
    request_id: OwnRequestId | None = Field(
        default=None,
        description="The submitter's own id, which must not end in :NUMBER:NUMBER; if absent, the"
        " Celery task id is used.",
    )
    atomic: Annotated[bool, Field(strict=True)] = Field(
        default=True,
        description="If true, one refused course refuses the whole request;"
        " if false, the request still counts for the other courses.",
    )
    reason: Reason | None = Field(
        default=None,
        description="Why, in up to 255 characters; the student's history shows it.",
    )
    as_of: Moment | None = Field(
        default=None,
        description=f"When the request counts:{_AS_OF} Of two requests that contradict each other,"
        " the one with the later time wins, whichever arrives first.",
    )

    if TYPE_CHECKING:
        # A type checker would allow only a tuple for the courses, and not the list that works.
        def __init__(
            self,
            *,
            student_id: int | str,
            course_ids: Sequence[int | str] = (),
            drop_course_ids: Sequence[int | str] = (),
            request_id: str | None = None,
            atomic: bool = True,
            reason: str | None = None,
            as_of: datetime | str | None = None,
        ) -> None: ...

    @model_validator(mode="after")
    def _names_each_course_once(self) -> Self:
        _check_course_lists(self.course_ids, self.drop_course_ids)
        return self


def _check_course_lists(
    course_ids: tuple[int | str, ...], drop_course_ids: tuple[int | str, ...]
) -> None:
    if not drop_course_ids:
        if not course_ids:
            raise PydanticCustomError(
                FIELD_ERROR,
                "must be a list of 1 to {most} courses, unless drop_course_ids names some",
                {"field": "course_ids", "most": MAX_COURSES},
            )
        return
    if len(course_ids) + len(drop_course_ids) > MAX_COURSES:
        raise PydanticCustomError(
            FIELD_ERROR,
            "must name at most {most} courses together with course_ids; divide the request",
            {"field": "drop_course_ids", "most": MAX_COURSES},
        )
    for position, course in enumerate(drop_course_ids):
        if course in course_ids:
            raise PydanticCustomError(
                FIELD_ERROR,
                "is also in course_ids; remove the course from one of the two lists",
                {"field": f"drop_course_ids[{position}]"},
            )


class StudentRecord(ContractModel):
    """A student in the roster, as the upstream system knows them; stored under the SIS id."""

    sis_id: Text = Field(description="The upstream system's own identifier.")
    name: Text | None = Field(
        default=None, description="If absent, the stored name does not change."
    )
    email: Text | None = Field(
        default=None, description="If absent, the stored address does not change."
    )
    as_of: Moment | None = Field(default=None, description=_ROSTER_AS_OF)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            sis_id: str,
            name: str | None = None,
            email: str | None = None,
            as_of: datetime | str | None = None,
        ) -> None: ...


class CourseRecord(ContractModel):
    """A course in the roster, as the upstream system knows it; stored under the SIS id."""

    sis_id: Text = Field(description="The upstream system's own identifier.")
    title: Text | None = Field(
        default=None, description="If absent, the stored title does not change."
    )
    as_of: Moment | None = Field(default=None, description=_ROSTER_AS_OF)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            sis_id: str,
            title: str | None = None,
            as_of: datetime | str | None = None,
        ) -> None: ...


class ResultStatus(StrEnum):
    """How a request ended."""

    ENROLLED = "enrolled"
    """The student is enrolled in every course that was asked for and not superseded."""
    DROPPED = "dropped"
    """The student is not enrolled in the courses to drop, except in superseded ones."""
    CHANGED = "changed"
    """The student is enrolled in some courses and not in others, as the request asked."""
    PARTIAL = "partial"
    """The request counts for some of its courses; `errors` explains the others."""
    REJECTED = "rejected"
    """The whole request was refused and changed nothing."""
    SUPERSEDED = "superseded"
    """For every course, a later request asks for the opposite; nothing was changed."""


class RequestState(StrEnum):
    """The state of a request."""

    UNKNOWN = "unknown"
    """Neither a result nor a mark is stored under this id, or the request is lost."""
    QUEUED = "queued"
    """The request was submitted, and no worker has started on it."""
    RUNNING = "running"
    """A worker is processing the request."""
    DONE = "done"
    """The result of the request is stored."""


class EnrollmentProblem(ContractModel):
    """One reason why a request, or a part of it, was refused."""

    code: Code = Field(description="A stable code in lower case, for programs.")
    message: str = Field(description="An explanation for people.")
    course_id: int | str | None = Field(
        default=None, description="The refused course, as the request names it."
    )
    field: str | None = Field(
        default=None, description="The invalid field, for example course_ids[3]."
    )
    line: int | None = Field(
        default=None, description="The line of the submitted file, counted from 1."
    )


class EnrolledCourse(ContractModel):
    """A course that the student is enrolled in after the request."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title; null if upstream sent none.")
    added: bool = Field(
        description="True if this request enrolled the student;"
        " false if the student was already enrolled."
    )


class DroppedCourse(ContractModel):
    """A course that the student is not enrolled in after the request."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title; null if upstream sent none.")
    removed: bool = Field(
        description="True if this request ended an enrollment; false if the student was not"
        " enrolled."
    )


class SupersededCourse(ContractModel):
    """A course for which a later request asks for the opposite, and has won."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title; null if upstream sent none.")
    action: Action = Field(description="What this request asked for.")
    moment: datetime = Field(description="The moment of the request that won, in UTC.")


class StudentEnrollmentResponse(ContractModel):
    """The stored result of one request."""

    request_id: str = Field(description="The id of the request.")
    student_id: int | str | None = Field(
        description="The student, as the request names them; null if that could not be read."
    )
    student_sis_id: str | None = Field(
        default=None,
        description="The student's SIS id, even if the request names them by our key; null if it"
        " is not known.",
    )
    status: ResultStatus = Field(description="How the request ended.")
    enrolled_courses: tuple[EnrolledCourse, ...] = Field(
        default=(),
        description="The courses that the student is enrolled in, in the order of the request.",
    )
    dropped_courses: tuple[DroppedCourse, ...] = Field(
        default=(),
        description="The courses that the student is not enrolled in any more, or was not.",
    )
    superseded_courses: tuple[SupersededCourse, ...] = Field(
        default=(),
        description="The courses for which a later request asks for the opposite.",
    )
    reason: str | None = Field(default=None, description="The reason that the request gave.")
    errors: tuple[EnrollmentProblem, ...] = Field(
        default=(), description="Why the request, or some of its courses, was refused."
    )
    batch_id: str | None = Field(
        default=None, description="The batch of the request; null if it had none."
    )
    completed_at: datetime = Field(description="When the request was processed, in UTC.")
    moment: datetime | None = Field(
        default=None,
        description="When the request counts, in UTC: the later of two requests wins. Null in"
        " results that an older version stored.",
    )


class EnrolledCourseRecord(ContractModel):
    """A course that a student is enrolled in."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    title: str | None = Field(description="The course's title; null if upstream sent none.")
    enrolled_at: datetime = Field(
        description="The moment of the request that enrolled the student, in UTC."
    )


class StudentResponse(ContractModel):
    """A student with their courses."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The upstream system's own identifier.")
    name: str | None = Field(description="The student's name; null if upstream sent none.")
    email: str | None = Field(description="The e-mail address; null if upstream sent none.")
    courses: tuple[EnrolledCourseRecord, ...] = Field(description="Sorted by SIS id.")


class RequestStatus(ContractModel):
    """The state of a request.

    `unknown` means that no request is known under this id, or that it is lost (see `advice`).
    """

    request_id: str = Field(description="The id that was looked up.")
    state: RequestState = Field(description="The state of the request.")
    result: StudentEnrollmentResponse | None = Field(
        default=None, description="The result; present when the state is `done`."
    )
    advice: str | None = Field(
        default=None, description="What is wrong and what to do; null as long as nothing is wrong."
    )
