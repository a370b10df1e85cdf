"""Make the problems of requests that follow the contract, but are refused all the same.

`explain` makes those of records that break it.
"""

from datetime import datetime
from typing import Final

from producer.fields import MAX_KEY, show_moment
from producer.schemas import Code, EnrollmentProblem

MAX_AHEAD: Final = 300.0
"""Seconds by which a request or record may say that it counts ahead of the clock."""

BATCH_MAX_AHEAD: Final = 1.0
"""Seconds by which a client lets a batch count ahead of the clock; a worker would ignore more."""


def ahead_of_clock(as_of: datetime | None, now: datetime) -> EnrollmentProblem | None:
    """Return the problem of a request or record that would count too far in the future, or None.

    A sender with a wrong clock must not win against everyone else for hours.
    """
    if as_of is None or (as_of - now).total_seconds() <= MAX_AHEAD:
        return None
    message = (
        f"as_of: {show_moment(as_of)} lies more than five minutes ahead of the system's clock"
        f" ({show_moment(now)}); correct the time or its time zone, or leave as_of out"
    )
    return EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field="as_of")


def batch_ahead_of_clock(moment: datetime | None, now: datetime) -> EnrollmentProblem | None:
    """Return the problem of a batch that its submitter wants to count in the future, or None.

    Another client may have read the clock a little later than this one.
    """
    if moment is None or (moment - now).total_seconds() <= BATCH_MAX_AHEAD:
        return None
    message = (
        f"moment: {show_moment(moment)} lies ahead of the system's clock ({show_moment(now)});"
        " correct the time or its time zone, or leave moment out"
    )
    return EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field="moment")


def unknown_student(student_id: int | str, *, from_file: bool) -> EnrollmentProblem:
    """Return the problem of a request whose student is not in the roster."""
    message = f"no student has the {_shown_id(student_id, from_file=from_file)}"
    return EnrollmentProblem(code=Code.UNKNOWN_STUDENT, message=message, field="student_id")


def unknown_course(course_id: int | str, *, from_file: bool) -> EnrollmentProblem:
    """Return the problem of a request with a course that is not in the roster."""
    message = f"no course has the {_shown_id(course_id, from_file=from_file)}"
    return EnrollmentProblem(code=Code.UNKNOWN_COURSE, message=message, course_id=course_id)


def _shown_id(value: int | str, *, from_file: bool) -> str:
    """Name an id, and explain what to send if a key and a SIS id were confused.

    A file names keys by its columns, or says so in a notice; a single request is explained here.
    """
    if isinstance(value, int):
        hint = "" if from_file else f"; the SIS id would be the string {str(value)!r}"
        return f"key {value} (our own number, not a SIS id{hint})"
    may_be_key = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_KEY))
    if from_file or not may_be_key:
        return f"SIS id {value!r}"
    return f"SIS id {value!r} (for our key, send the integer {value}, or key:{value} in a command)"


def same_course(position: int, course_id: int | str, other: int | str) -> EnrollmentProblem:
    """Return the problem of a request that both enrolls in a course and drops it.

    `course_id`, at this position of `drop_course_ids`, and `other` in `course_ids` name one course.
    """
    field = f"drop_course_ids[{position}]"
    message = (
        f"{field}: {course_id!r} and {other!r} of course_ids are the same course; remove the course"
        " from one of the two lists"
    )
    return EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field=field)


def before_limit(moment: datetime, limit: datetime, *, is_own: bool) -> EnrollmentProblem:
    """Return the problem of a request that counts at a time whose history was pruned.

    `is_own` is true if the request names that time itself.
    """
    what = "as_of: " if is_own else "the request counts at "
    message = (
        f"{what}{show_moment(moment)} lies before {show_moment(limit)}, and what happened before"
        " that was pruned; send the request again with a later time"
    )
    return EnrollmentProblem(
        code=Code.INVALID_REQUEST, message=message, field="as_of" if is_own else None
    )


def undone() -> EnrollmentProblem:
    """Return the problem of a request whose batch was undone before the request was applied."""
    return EnrollmentProblem(
        code=Code.UNDONE,
        message="the batch was undone before this request was applied; if the request is to count,"
        " submit it in another batch",
    )


def reused_id(request_id: str) -> EnrollmentProblem:
    """Return the problem of a request whose id belongs to a different request."""
    return EnrollmentProblem(
        code=Code.REQUEST_ID_REUSED,
        message=f"request id {request_id!r} was already used for a different request;"
        " nothing was changed; submit this one under a new id",
        field="request_id",
    )
