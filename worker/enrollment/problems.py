"""Say what is wrong with requests, and in which of their lines. Pure functions, no SQL."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from producer.contract.chunks import courses_in_order, row_of
from producer.contract.refusals import undone
from producer.schemas import CODE_MEANINGS, Action, Code, EnrollmentProblem
from worker.enrollment.incoming import IncomingRequest

_COURSE_FIELD = re.compile(r"(drop_)?course_ids\[([0-9]{1,9})\]")
"""The field of a problem that is about one course of a request."""


def not_processed(what_happened: str) -> EnrollmentProblem:
    """Return the refusal of a request that became a dead letter."""
    last_line = what_happened.strip().splitlines()[-1:] or ["it failed"]
    return EnrollmentProblem(
        code=Code.NOT_PROCESSED,
        message=f"{CODE_MEANINGS[Code.NOT_PROCESSED]} ({ascii(last_line[0])[1:-1][:200]})",
    )


def refused_as_undone(requests: Sequence[IncomingRequest]) -> list[IncomingRequest]:
    """Return requests of a batch that was undone, each with that as its only problem."""
    problem = (undone(),)
    return [request._replace(problems=problem) for request in requests]


def lines_about(incoming: IncomingRequest, problem: EnrollmentProblem) -> list[tuple[int, int]]:
    """Return the lines that a problem is about, each with its position in the request.

    A problem is about the line of one course, or about all lines of the request.
    """
    lines = list(enumerate(incoming.lines))
    if len(lines) <= 1:
        return lines
    courses = courses_in_order(incoming.request or incoming.record)
    field = _COURSE_FIELD.fullmatch(problem.field or "")
    if field is not None:
        action = Action.DROP if field[1] else Action.ENROLL
        position = row_of(incoming.request or incoming.record, action, int(field[2]))
        return lines[position:][:1] or lines
    if problem.course_id is None:
        return lines
    return [place for place in lines if problem.course_id == courses[place[0]]] or lines


def located(problem: EnrollmentProblem, incoming: IncomingRequest) -> EnrollmentProblem:
    """Add the first line that a problem is about."""
    lines = lines_about(incoming, problem)
    return problem.model_copy(update={"line": lines[0][1]}) if lines else problem


def stored_problem(stored: Any) -> EnrollmentProblem:
    """Return a stored refusal, even with a code that only a newer version knows.

    That request was decided, and this version must not decide it again.
    """
    try:
        return EnrollmentProblem.model_validate(stored, extra="ignore")
    except ValidationError:
        return EnrollmentProblem.model_construct(**stored)
