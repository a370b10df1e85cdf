"""Check a record against its model, and explain what is wrong with it: at most ten problems.

The time and memory of an explanation are bounded, however many problems a record has.
"""

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from producer.fields import (
    FIELD_ERROR,
    MAX_CHUNK_RECORDS,
    MAX_COURSES,
    MAX_DATA_SET,
    MAX_KEY,
    MAX_LOOKUP,
    MAX_REQUEST_ID,
    MAX_TEXT,
)
from producer.schemas import Code, ContractModel, EnrollmentProblem

MAX_PROBLEMS: Final = 10
"""The most problems reported for one record; the last one says how many more there are."""

_MAX_ERRORS: Final = 1_000
"""With more errors than this, only their number is reported.

Listing them makes pydantic build a value for each.
"""

_TOO_LONG: Final = [1] * (MAX_COURSES + 1)
"""Stands for a list that is too long for its field, whatever its elements are."""

ModelType = TypeVar("ModelType", bound=ContractModel)

_IDENTIFIER: Final = (
    f"must be our key (an integer from 1 to {MAX_KEY})"
    f" or the SIS id (a string of 1 to {MAX_TEXT} characters)"
)
_REQUEST_ID: Final = f"must be a string of 1 to {MAX_REQUEST_ID} characters"

_RULES: Final[Mapping[str, str]] = {
    "student_id": _IDENTIFIER,
    "students": _IDENTIFIER,
    "student": _IDENTIFIER,
    "course": _IDENTIFIER,
    "course_ids": f"must be a list of 1 to {MAX_COURSES} courses",
    "drop_course_ids": f"must be a list of at most {MAX_COURSES} courses",
    "reason": f"must be a text of at most {MAX_TEXT} characters",
    "request_id": _REQUEST_ID,
    "request_ids": _REQUEST_ID,
    "atomic": "must be true or false",
    "batch_id": _REQUEST_ID,
    "batch_ids": _REQUEST_ID,
    "limit": f"must be an integer from 1 to {MAX_LOOKUP}",
    "after": f"must be an integer from 0 to {MAX_KEY}",
    "line": f"must be an integer from 0 to {MAX_KEY}",
    "numbers": "must be an integer from 0 to 9223372036854775807",
    "before": "must be the completed_at and the request_id of a result",
    "cursor": "must be the `next` of a page",
    "state": "must be queued, running, stalled, done, staged, planned, held, discarded or unknown",
    "plan_id": _REQUEST_ID,
    "decision": "must be approve or discard",
    "digest": "must be the digest of the report: 64 hexadecimal digits, in lower case",
    "submitter": f"must be a string of 1 to {MAX_TEXT} characters",
    "text": f"must be a text of 1 to {MAX_TEXT} characters",
    "code": "must be one of the codes of docs/codes.md",
    "kind": "must be students, courses or enrollments",
    "number": f"must be an integer from 0 to {MAX_KEY}",
    "last": "must be true or false",
    "records": f"must be a list of at most {MAX_CHUNK_RECORDS} records",
    "refused": f"must be a list of at most {MAX_CHUNK_RECORDS} refused lines",
    "data_set": f"must be a name of 1 to {MAX_DATA_SET} characters without control characters",
    "plan.id": _REQUEST_ID,
    "plan.members": "must be a list of 1 to 10 batches",
    "plan.members.batch_id": _REQUEST_ID,
    "plan.members.kind": "must be students, courses or enrollments",
    "plan.purpose": "must be report or apply",
    "plan.hold": "must be always, or a percentage such as 2%",
    **dict.fromkeys(("plan.snapshot", "plan.adopt"), "must be true or false"),
    **dict.fromkeys(("before.requests", "before.rows"), "must be an integer from 0 on"),
    **dict.fromkeys(
        ("sis_id", "name", "email", "title"), f"must be a string of 1 to {MAX_TEXT} characters"
    ),
}


_OBJECTS: Final = ("plan", "before")
"""The fields of a chunk that are objects themselves: an error names the field in them."""

_PATTERNS: Final = ("data_set", "digest", "plan.hold")
"""Texts of which only some characters are allowed, so that their rule says more."""

_TEXT_RULES: Final[Mapping[str, str]] = {
    "string_pattern_mismatch": "must not contain the character NUL",
    "string_unicode": "must be valid Unicode text, without lone surrogates",
}


_UNKNOWN_FIELDS: Final[Mapping[str, str]] = dict.fromkeys(
    ("action", "drop", "drop_course", "drop_course_id", "drop_courses", "drop_ids", "drops"),
    "is not a known field; a request names the courses to drop in drop_course_ids",
)
"""What is said about fields by which a request may have meant a drop: without them, it would enroll
its student."""


def parse_record(
    model: type[ModelType], record: object
) -> tuple[ModelType | None, tuple[EnrollmentProblem, ...]]:
    """Parse a record into its model; return the model, or the problems if the record is invalid."""
    if isinstance(record, model):
        return record, ()
    short, left_out = _shortened(model, record)
    try:
        return model.model_validate(short), ()
    except ValidationError as error:
        return None, explain(error, record, left_out)


def _shortened(model: type[ContractModel], record: object) -> tuple[object, int]:
    """Leave out what makes a record invalid but would not be reported.

    Return the rest, which is invalid as well, and the number of unknown fields that were left out.
    """
    if not isinstance(record, dict):
        return record, 0
    unknown = [name for name in record if name not in model.model_fields]
    superfluous = set(unknown[MAX_PROBLEMS:])
    return {
        name: _TOO_LONG if isinstance(value, list) and len(value) > MAX_COURSES else value
        for name, value in record.items()
        if name not in superfluous
    }, len(superfluous)


def explain(
    error: ValidationError, record: object = None, more: int = 0
) -> tuple[EnrollmentProblem, ...]:
    """Return one problem for each field that breaks the contract, with its position and rule.

    At most `MAX_PROBLEMS` are returned; the last one says how many more there are, with `more`
    added to their number. `record` is the whole record, if only a part of it was validated.
    """
    if error.error_count() > _MAX_ERRORS:
        count = error.error_count() + more
        message = f"breaks the contract of {error.title} in {count} places, which are not listed"
        return (_problem("", message),)
    problems: dict[str, EnrollmentProblem] = {}
    for detail in error.errors(include_url=False):
        name, *rest = detail["loc"] or ("",)
        if detail["type"] == FIELD_ERROR:
            field = detail["ctx"]["field"]
            problems[field] = _problem(field, detail["msg"])
            continue
        if detail["type"] == "too_short" and detail["input"]:
            continue  # The list has elements, but all are invalid: each has its own problem.
        if name in _OBJECTS and rest and isinstance(rest[0], str):
            field, rule = _place_in_object(detail["loc"])
            problems.setdefault(field, _problem(field, _sentence(detail, rule, is_element=False)))
            continue
        field = _plain(str(name))
        index = rest[0] if rest and isinstance(rest[0], int) else None
        if index is not None:
            field = f"{field}[{index}]"
        # An id may be a key or a SIS id, so it has two errors; the more specific one is shown.
        if field not in problems or detail["type"] in ("value_error", *_TEXT_RULES):
            if not rest and isinstance(record, dict):
                detail["input"] = record.get(name)
            message = _sentence(detail, str(name), is_element=index is not None)
            problems[field] = _problem(field, message)
    reported = list(problems.values())[:MAX_PROBLEMS]
    more += len(problems) - len(reported)
    if more:
        problem = "problem" if more == 1 else "problems"
        message = f"{reported[-1].message}; and {more} more {problem}"
        reported[-1] = reported[-1].model_copy(update={"message": message})
    return tuple(reported)


def _place_in_object(loc: tuple[int | str, ...]) -> tuple[str, str]:
    """Return the field of a nested object that an error is about, and the name of its rule."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in loc)
    rule = ".".join(part for part in loc if isinstance(part, str))
    return _plain("".join(parts).removeprefix(".")), rule


def explain_argument(error: ValidationError, value: object, name: str) -> str:
    """Return what is wrong with the argument `name` of a lookup, by the rule of its first error.

    If it is a list of ids or numbers, the rule of its elements has the same name.
    """
    detail = error.errors(include_url=False)[0]
    if detail["type"] in ("list_type", "too_long"):
        return f"{name}: must be a list of at most {MAX_LOOKUP}, not {_shown(value)}"
    index = next((part for part in detail["loc"] if isinstance(part, int)), None)
    is_element = index is not None and isinstance(value, list) and name != "before"
    field = f"{name}[{index}]" if is_element else name
    if not is_element:
        detail["input"] = value
    return f"{field}: {_sentence(detail, name, is_element=is_element)}"


def _problem(field: str, message: str) -> EnrollmentProblem:
    return EnrollmentProblem(
        code=Code.INVALID_REQUEST,
        message=f"{field}: {message}" if field else message,
        field=field or None,
    )


def _sentence(detail: Any, name: str, *, is_element: bool) -> str:
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _UNKNOWN_FIELDS.get(name, "is not a known field; correct its name, or remove it")
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return f"must be a JSON object, not {_shown(detail['input'])}"
        case "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        case "string_pattern_mismatch" | "string_unicode" as kind if name not in _PATTERNS:
            return _TEXT_RULES[kind]
    # A course follows the same rule as student_id.
    in_list = is_element and name in ("course_ids", "drop_course_ids")
    rule_name = "student_id" if in_list else name
    rule = _RULES.get(rule_name, "must have the form that docs/integration.md describes")
    return f"{rule}, not {_shown(detail['input'])}"


def _plain(text: str) -> str:
    """Return text that is safe for every database, terminal and log, cut to a field's length."""
    text = text[:MAX_TEXT]
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT]


def _shown(value: object, max_length: int = 60) -> str:
    """Return the beginning of a value as JSON. The rest of it is not even converted."""
    if isinstance(value, list | tuple) and len(value) > MAX_COURSES:
        return f"a list of {len(value)}"
    if isinstance(value, str):
        value = value[: max_length + 1]
    try:
        # Unlike json.dumps, this is lazy: it makes one piece after another.
        pieces = json.JSONEncoder(default=repr).iterencode(value)
        text = "".join(islice(pieces, max_length + 1))
    except ValueError:  # The value is an integer with more digits than Python prints.
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= max_length else text[: max_length - 3] + "..."
