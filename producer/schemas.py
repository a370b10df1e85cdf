"""Define the heart of the public contract: requests, results, roster records and codes.

The types of its fields and their limits are in `producer.fields`. This module imports nothing else
of ours. Its names, fields and codes are a contract with systems
in other languages: new ones may be added, but they are never renamed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, overload

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from producer.fields import (
    FIELD_ERROR,
    MAX_COURSES,
    CourseList,
    Identifier,
    Moment,
    OwnRequestId,
    Reason,
    Text,
)


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
    UNDONE = "undone"
    """The batch of the request was undone before the request was applied."""


CODE_MEANINGS: Final[Mapping[Code, str]] = {
    Code.UNKNOWN_STUDENT: "the student is not in the roster; correct the id, or submit the student",
    Code.UNKNOWN_COURSE: "the course is not in the roster; correct the id, or submit the course",
    Code.INVALID_REQUEST: "the line or record is not valid; fix what the message names",
    Code.REQUEST_ID_REUSED: "the request id was already used for another request; use a new id",
    Code.NOT_PROCESSED: "the system failed on this record and stored it as a dead letter;"
    " contact the operator",
    Code.UNDONE: "the batch was undone before this line was applied; if the line is to"
    " count, submit it in another batch",
}


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
        # A type checker would allow only a tuple for the courses, and not the list that works; and
        # it would not require any.
        @overload
        def __init__(
            self,
            *,
            student_id: int | str,
            course_ids: Sequence[int | str],
            drop_course_ids: Sequence[int | str] = (),
            request_id: str | None = None,
            atomic: bool = True,
            reason: str | None = None,
            as_of: datetime | str | None = None,
        ) -> None: ...

        @overload
        def __init__(
            self,
            *,
            student_id: int | str,
            drop_course_ids: Sequence[int | str],
            request_id: str | None = None,
            atomic: bool = True,
            reason: str | None = None,
            as_of: datetime | str | None = None,
        ) -> None: ...

        def __init__(self, **fields: Any) -> None: ...

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
