"""Explain a validation error: one problem for each field, with its position and its rule."""

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


_TEXT_RULES: Final[Mapping[str, str]] = {
    "string_pattern_mismatch": "must not contain the character NUL",
    "string_unicode": "must be valid Unicode text, without lone surrogates",
}


def explain(error: ValidationError) -> tuple[EnrollmentProblem, ...]:
    """Return one problem for each field that breaks the contract, with its position and rule."""
    problems: dict[str, EnrollmentProblem] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # The list has elements, but all are invalid: each has its own problem.
        name, *rest = detail["loc"] or ("",)
        field = _plain(str(name))
        index = rest[0] if rest and isinstance(rest[0], int) else None
        if index is not None:
            field = f"{field}[{index}]"
        message = _sentence(detail, str(name), is_element=index is not None)
        problem = EnrollmentProblem(
            code=Code.INVALID_REQUEST,
            message=f"{field}: {message}" if field else message,
            field=field or None,
        )
        # An id may be a key or a SIS id, so it has two errors; the more specific one is shown.
        if field not in problems or detail["type"] in ("value_error", *_TEXT_RULES):
            problems[field] = problem
    return tuple(problems.values())


def _sentence(detail: Any, name: str, *, is_element: bool) -> str:
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a known field; remove it"
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return f"must be a JSON object, not {_shown(detail['input'])}"
        case "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        case "string_pattern_mismatch" | "string_unicode" as kind:
            return _TEXT_RULES[kind]
    # An element of course_ids follows the same rule as student_id.
    rule_name = "student_id" if is_element and name == "course_ids" else name
    rule = _RULES.get(rule_name, "must have the form that docs/integration.md describes")
    return f"{rule}, not {_shown(detail['input'])}"


def _plain(text: str) -> str:
    """Return text that is safe for every database, terminal and log, cut to a field's length."""
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT]


def _shown(value: object, max_length: int = 60) -> str:
    if isinstance(value, list | tuple) and len(value) > MAX_COURSES:
        return f"a list of {len(value)}"
    try:
        text = json.dumps(value, default=repr)
    except ValueError:  # The value is an integer with more digits than Python prints.
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= max_length else text[: max_length - 3] + "..."
