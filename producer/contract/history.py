"""Define a student's history and a course's roll, as a worker reports them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import Field

from producer.schemas import Action, ContractModel, EnrollmentProblem

_COURSE_FIELD: Final = re.compile(r"(drop_)?course_ids\[[0-9]+\]")


class Change(StrEnum):
    """What happened to a student's enrollment in a course."""

    ENROLLED = "enrolled"
    """An enrollment began."""
    DROPPED = "dropped"
    """An enrollment ended."""
    SUPERSEDED = "superseded"
    """Nothing: a later request asks for the opposite."""
    REJECTED = "rejected"
    """Nothing: the request was refused, for this course or as a whole."""

    def place(self, request_id: str | None) -> tuple[bool, str, int]:
        """Return what entries of one moment are sorted by, like all the latest one first.

        An enrollment is the latest, whatever the requests: it is what counts from that moment on.
        """
        number = -list(Change).index(self)
        return self is Change.ENROLLED, request_id or "", number


class HistoryCourse(ContractModel):
    """A course of a history."""

    id: int | None = Field(
        description="Our key, or the one that a refused request named; null if it is not known."
    )
    sis_id: str | None = Field(description="The SIS id; null if it is not known.")
    title: str | None = Field(default=None, description="The title; null if it is not known.")


class HistoryEntry(ContractModel):
    """A change of an enrollment, or a refused or superseded request for one."""

    moment: datetime = Field(description="When the request counts, in UTC.")
    change: Change = Field(description="What happened.")
    action: Action | None = Field(
        default=None, description="What was asked for; null if the request was refused."
    )
    course: HistoryCourse | None = Field(
        default=None,
        description="The course; null if the request was refused as a whole, unless for one"
        " course.",
    )
    request_id: str | None = Field(
        default=None, description="The request; null if its result was pruned."
    )
    batch_id: str | None = Field(default=None, description="The batch of the request, if any.")
    line: int | None = Field(
        default=None, description="The line of the submitted file; null if it is not known."
    )
    lines: tuple[int, ...] = Field(
        default=(),
        description="All lines of the submitted file that a refusal is about, if there are several;"
        " empty otherwise, or if they are not known.",
    )
    reason: str | None = Field(default=None, description="The reason that the request gave.")
    superseded_by: datetime | None = Field(
        default=None, description="The moment of the later request that won."
    )
    errors: tuple[EnrollmentProblem, ...] = Field(
        default=(), description="Why the request, or this course of it, was refused."
    )
    completed_at: datetime | None = Field(
        default=None, description="When the request was processed; null if its result was pruned."
    )


def refused_lines(
    problems: Iterable[EnrollmentProblem], request_lines: Sequence[int]
) -> tuple[int, ...]:
    """Return the lines that the problems of a refused request are about, if there are several.

    A problem is about the line of one course, or about all lines of the request.
    """
    lines: set[int] = set()
    for problem in problems:
        is_about_course = problem.course_id is not None or _COURSE_FIELD.fullmatch(
            problem.field or ""
        )
        lines.update(() if is_about_course else request_lines)
        lines.update(() if problem.line is None else (problem.line,))
    return tuple(sorted(lines)) if len(lines) > 1 else ()


class StudentHistory(ContractModel):
    """What happened to a student's enrollments, the latest moment first."""

    student_id: int | None = Field(description="Our key; null if there is no such student.")
    student_sis_id: str | None = Field(description="The SIS id; null if it is not known.")
    entries: tuple[HistoryEntry, ...] = Field(default=(), description="The latest moment first.")
    more: bool = Field(
        default=False,
        description="True if older entries follow: ask again `before` the last moment.",
    )


class EnrolledStudent(ContractModel):
    """A student of a course's roll."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The SIS id.")
    name: str | None = Field(description="The student's name; null if upstream sent none.")
    enrolled_at: datetime = Field(description="The moment that the enrollment began, in UTC.")
    ended_at: datetime | None = Field(
        default=None, description="The moment that it ended; null if it did not end."
    )


class CourseRoll(ContractModel):
    """Who was enrolled in a course, by key."""

    id: int = Field(description="Our key of the course.")
    sis_id: str = Field(description="The SIS id of the course.")
    title: str | None = Field(description="The course's title; null if upstream sent none.")
    at: datetime = Field(description="The moment that the roll is about, in UTC.")
    students: tuple[EnrolledStudent, ...] = Field(default=(), description="In order of their keys.")
    more: bool = Field(
        default=False, description="True if more students follow: ask again `after` the last key."
    )


class CourseRolls(ContractModel):
    """A part of who is enrolled in several courses, by SIS ids."""

    students: Mapping[str, tuple[str, ...]] = Field(
        default={},
        description="The SIS ids of students, by the SIS id of a course that they are enrolled in.",
    )
    next: tuple[int, int] | None = Field(
        default=None,
        description="If it is not null, more enrollments may follow: ask again `after` it.",
    )
