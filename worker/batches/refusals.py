"""Turn the problems of a request into refusals, one for each line."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from producer.contract.chunks import Cells
from producer.schemas import ContractModel, EnrollmentProblem
from worker.enrollment.rules import Asked, lines_about

Refusals = list[dict[str, Any]]


def _refusals(
    asked: Asked, problem: EnrollmentProblem, cells: Mapping[int, Cells]
) -> Iterator[dict[str, Any]]:
    """A refusal for each line that a problem is about, with what was asked in that line."""
    record = _plain(asked.record)
    for place, line in lines_about(asked, problem):
        if len(asked.lines) > 1:
            part = {**record, "course_ids": [record["course_ids"][place]]}
            yield _refusal(line, problem, part, cells.get(line))
        else:
            yield _refusal(line, problem, record, cells.get(line))


def _plain(record: Any) -> Any:
    """A record as it was submitted."""
    if isinstance(record, ContractModel):
        return record.model_dump(mode="json", exclude_defaults=True)
    return record


def _refusal(
    line: int, problem: EnrollmentProblem, record: object, cells: Cells | None
) -> dict[str, Any]:
    return {
        "line": line,
        "code": problem.code.value,
        "message": problem.message,
        "record": _json(record),
        "cells": None if cells is None else _json(cells),
    }


def _json(value: object) -> str:
    """Anything as JSON that every database takes: NaN, which JSON does not know, as text."""
    try:
        return json.dumps(value, default=repr, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value, default=repr), parse_constant=str))
