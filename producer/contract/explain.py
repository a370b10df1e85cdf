"""Explain a validation error: one problem for each field, with its place and the rule."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from producer.schemas import (
    MAX_CHUNK_RECORDS,
    MAX_COURSES,
    MAX_KEY,
    MAX_REQUEST_ID,
    MAX_TEXT,
    Code,
    EnrollmentProblem,
)

_RULES: Final[Mapping[str, str]] = {
    "student_id": f"must be our key (an integer from 1 to {MAX_KEY})"
    f" or the SIS id (a string of 1 to {MAX_TEXT} characters)",
    "course_ids": f"must be a list of 1 to {MAX_COURSES} courses",
    "request_id": f"must be a string of 1 to {MAX_REQUEST_ID} characters",
    "atomic": "must be true or false",
    "batch_id": f"must be a string of 1 to {MAX_REQUEST_ID} characters",
    "number": f"must be an integer from 0 to {MAX_KEY}",
    "last": "must be true or false",
    "records": f"must be a list of at most {MAX_CHUNK_RECORDS} records",
    "refused": f"must be a list of at most {MAX_CHUNK_RECORDS} refused lines",
    **dict.fromkeys(
        ("sis_id", "name", "email", "title"), f"must be a string of 1 to {MAX_TEXT} characters"
    ),
}


_NO_TEXT: Final[Mapping[str, str]] = {
    "string_pattern_mismatch": "must not contain the character NUL",
    "string_unicode": "must be text; a lone surrogate is none",
}


def explain(error: ValidationError) -> tuple[EnrollmentProblem, ...]:
    """One problem for each field that breaks the contract, with its place and the rule."""
    problems: dict[str, EnrollmentProblem] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # Not empty, but every element is bad: each has its own problem.
        name, *rest = detail["loc"] or ("",)
        place = _plain(str(name))
        element = rest[0] if rest and isinstance(rest[0], int) else None
        if element is not None:
            place = f"{place}[{element}]"
        message = _sentence(detail, str(name), within=element is not None)
        problem = EnrollmentProblem(
            code=Code.INVALID_REQUEST,
            message=f"{place}: {message}" if place else message,
            field=place or None,
        )
        if place not in problems or detail["type"] in ("value_error", *_NO_TEXT):
            problems[place] = problem  # Of an id's two forms, the rule that says more.
    return tuple(problems.values())


def _sentence(detail: Any, name: str, *, within: bool) -> str:
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is no field of the contract; remove it"
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return f"must be a JSON object, not {_shown(detail['input'])}"
        case "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        case "string_pattern_mismatch" | "string_unicode" as kind:
            return _NO_TEXT[kind]
    known = "student_id" if within and name == "course_ids" else name
    rule = _RULES.get(known, "must be as the contract says")
    return f"{rule}, not {_shown(detail['input'])}"


def _plain(text: str) -> str:
    """Text that every database, terminal and log can take, cut to the length of a field."""
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT]


def _shown(value: object, longest: int = 60) -> str:
    if isinstance(value, list | tuple) and len(value) > MAX_COURSES:
        return f"a list of {len(value)}"
    try:
        text = json.dumps(value, default=repr)
    except ValueError:  # An integer of more digits than Python prints.
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= longest else text[: longest - 3] + "..."
