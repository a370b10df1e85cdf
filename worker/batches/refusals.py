"""Turn the problems of a request into refusals, one for each line."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from producer.contract.chunks import Cells, RefusedLine
from producer.schemas import Code, ContractModel, EnrollmentProblem
from worker.enrollment.rules import Decision, lines_about

Refusals = list[dict[str, Any]]


def refusals_of(decision: Decision, cells: Mapping[int, Cells]) -> Iterator[dict[str, Any]]:
    """Yield a refusal for each line that a problem of a request is about.

    A refusal holds the part of the request that is in its line. `cells` are the cells of the
    file, by line.
    """
    incoming = decision.incoming
    if not decision.result.errors:
        return
    record = plain_record(incoming.record)
    for problem in decision.result.errors:
        for position, line in lines_about(incoming, problem):
            part = record
            if len(incoming.lines) > 1:
                part = {**record, "course_ids": [record["course_ids"][position]]}
            yield refusal_of_line(line, problem, part, cells.get(line))


def refusal_of_unread_line(line: RefusedLine) -> dict[str, Any]:
    """Return the refusal of a line that its submitter could not turn into a record."""
    problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=line.message, field=line.field)
    return refusal_of_line(line.line, problem, None, line.cells)


def plain_record(record: Any) -> Any:
    """Return a record as it was submitted."""
    if isinstance(record, ContractModel):
        return record.model_dump(mode="json", exclude_defaults=True)
    return record


def refusal_of_line(
    line: int, problem: EnrollmentProblem, record: object, cells: Cells | None
) -> dict[str, Any]:
    """Return a refusal as a row of `batch_refusals`."""
    return {
        "line": line,
        "code": problem.code.value,
        "message": problem.message,
        "record": _json(record),
        "cells": None if cells is None else _json(cells),
    }


def _json(value: object) -> str:
    """Return any value as JSON that every database accepts; NaN, which is not JSON, as a string."""
    try:
        return json.dumps(value, default=repr, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value, default=repr), parse_constant=str))
