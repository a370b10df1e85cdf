"""Describe what was refused of a batch in memory: by line, and by cause."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from producer.contract.batches import FIRST_LINES, RefusalGroup, RefusedRecord
from producer.contract.chunks import COURSE_FIELDS, Cells, Chunk, courses_of
from producer.schemas import CODE_MEANINGS, Action, Code, ContractModel, EnrollmentProblem
from producer.testing.results import Result, count_enrolls, lines_about

MAX_REPEATED = 1_024
"""The longest JSON text of a request's other fields that is stored with each of its lines."""


def completed(refusal: RefusedRecord, refusals: Sequence[RefusedRecord]) -> RefusedRecord:
    """Return a refusal with the record and the cells that the first one of its line holds."""
    if refusal.record is not None or refusal.cells is not None:
        return refusal
    first = next(other for other in refusals if other.line == refusal.line)
    return refusal.model_copy(update={"record": first.record, "cells": first.cells})


def cells_by_line(chunk: Chunk) -> dict[int, Cells]:
    """Return the cells of the lines of a chunk, where it has them."""
    return dict(zip(chunk.lines or (), chunk.cells or (), strict=False))


def refused_lines(result: Result) -> Iterator[tuple[int, list[EnrollmentProblem], Any]]:
    """Yield each refused line of a request, with its problems and the part that is in this line.

    A problem of all lines is the first one of each, but the second one only of the first line.
    """
    incoming = result.incoming
    by_line: dict[tuple[int, int], list[EnrollmentProblem]] = {}
    for problem in result.errors:
        for index, place in enumerate(lines_about(incoming, problem)):
            problems = by_line.setdefault(place, [])
            if index == 0 or not problems:
                problems.append(problem)
    record = _plain(incoming.record)
    in_lines = len(incoming.lines) > 1
    fields = record
    for (row, line), problems in by_line.items():
        if in_lines:
            yield line, problems, {**fields, **_course_of_row(record, row)}
            fields = _short_fields(record)
        else:
            yield line, problems, record


def _course_of_row(record: Mapping[str, Any], row: int) -> dict[str, list[Any]]:
    """Return the fields of a request that hold courses, with only the one that is in this row."""
    enrolls = count_enrolls(record)
    action, position = (Action.ENROLL, row) if row < enrolls else (Action.DROP, row - enrolls)
    return {**_no_courses(record), COURSE_FIELDS[action]: [courses_of(record, action)[position]]}


def _no_courses(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [] for name in COURSE_FIELDS.values() if name in record}


def _plain(record: Any) -> Any:
    if isinstance(record, ContractModel):
        return record.model_dump(mode="json", exclude_defaults=True)
    return record


def _short_fields(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what each line of a request repeats; a long text is only stored with the first one."""
    shared = {**record, **_no_courses(record)}
    return shared if len(json.dumps(shared, default=repr)) <= MAX_REPEATED else {}


def groups(refusals: Sequence[RefusedRecord]) -> Iterator[RefusalGroup]:
    """Yield refusals by cause, each with its first lines and a message of theirs."""
    by_code: dict[Code, dict[int, list[str]]] = {}
    for refusal in refusals:
        by_code.setdefault(refusal.code, {}).setdefault(refusal.line, []).append(refusal.message)
    for code, messages in sorted(by_code.items()):
        lines = sorted(messages)[:FIRST_LINES]
        yield RefusalGroup(
            code=code,
            message=CODE_MEANINGS[code],
            count=sum(map(len, messages.values())),
            first_lines=tuple(lines),
            example=min(messages[lines[0]]),
        )
