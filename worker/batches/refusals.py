"""Turn the problems of a request into refusals, one for each line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from producer.contract.chunks import (
    COURSE_FIELDS,
    Cells,
    RefusedLine,
    courses_in_order,
    courses_of,
)
from producer.schemas import Action, Code, ContractModel, EnrollmentProblem
from worker.enrollment.problems import lines_about
from worker.enrollment.rules import Decision

Refusals = list[dict[str, Any]]

MAX_REPEATED: Final = 1_024
"""The longest JSON text of a request's other fields that is stored with each of its lines."""


def refusals_of(decision: Decision, cells: dict[int, Cells]) -> Iterator[dict[str, Any]]:
    """Yield the refusals of a request, for each line that one of its problems is about.

    The first refusal of a line holds the part of the request that is in this line; the others do
    not repeat it. `cells` are the cells of the file, by line. Those of a refused line are removed
    from it: thousands of requests may name one line, and its cells are stored once.
    """
    if not decision.result.errors:
        return
    record = plain_record(decision.incoming.record)
    in_lines = len(decision.incoming.lines) > 1
    fields = record
    for (position, line), problems in _problems_by_line(decision).items():
        part = {**fields, **_course_of_line(record, position)} if in_lines else record
        yield from refusals_of_line(line, problems, part, cells.pop(line, None))
        if in_lines and fields is record:
            fields = _short_fields(record)


def _problems_by_line(decision: Decision) -> dict[tuple[int, int], list[EnrollmentProblem]]:
    """Return the problems of a request by the position and number of their lines.

    If several problems are about all lines, the first one is given for each, and the others only
    for the first line: otherwise a request could have many problems times many lines.
    """
    by_line: dict[tuple[int, int], list[EnrollmentProblem]] = {}
    for problem in decision.result.errors:
        for index, place in enumerate(lines_about(decision.incoming, problem)):
            problems = by_line.setdefault(place, [])
            if index == 0 or not problems:
                problems.append(problem)
    return by_line


def _course_of_line(record: Mapping[str, Any], position: int) -> dict[str, list[Any]]:
    """Return the one course that is in a line of a request: its rows to drop come last."""
    enrolled = len(courses_of(record, Action.ENROLL))
    course = [courses_in_order(record)[position]]
    if position < enrolled:
        fields = {"course_ids": course, "drop_course_ids": []}
    else:
        fields = {"course_ids": [], "drop_course_ids": course}
    return {name: value for name, value in fields.items() if name in record or value}


def _short_fields(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what each line of a request repeats; a long text is only kept with the first one."""
    lists: dict[str, list[Any]] = {name: [] for name in COURSE_FIELDS.values() if name in record}
    shared = {**record, **lists}
    return shared if len(_json(shared)) <= MAX_REPEATED else {}


def refusal_of_unread_line(line: RefusedLine) -> dict[str, Any]:
    """Return the refusal of a line that its submitter could not turn into a record."""
    problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=line.message, field=line.field)
    (refusal,) = refusals_of_line(line.line, [problem], None, line.cells)
    return refusal


def plain_record(record: Any) -> Any:
    """Return a record as it was submitted."""
    if isinstance(record, ContractModel):
        return record.model_dump(mode="json", exclude_defaults=True)
    return record


def refusals_of_line(
    line: int, problems: Iterable[EnrollmentProblem], record: object, cells: Cells | None
) -> Iterator[dict[str, Any]]:
    """Yield the problems of a line as rows of `batch_refusals`; only the first has the record."""
    texts = {"record": _json(record), "cells": None if cells is None else _json(cells)}
    for problem in problems:
        yield {"line": line, "code": problem.code.value, "message": problem.message, **texts}
        texts = {"record": "null", "cells": None}


def _json(value: object) -> str:
    """Return any value as JSON that every database accepts; NaN, which is not JSON, as a string."""
    try:
        return json.dumps(value, default=repr, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value, default=repr), parse_constant=str))
