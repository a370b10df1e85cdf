"""Say what is wrong with a parameter of a route, in words for the person who wrote it."""

from collections.abc import Mapping
from typing import Any, Final

from producer.contract.printable import json_line

_SHOWN: Final = 60
"""How many characters of a value are shown."""

_TIME: Final = "must be a time with its time zone, such as 2026-09-01T08:00:00Z"

_RULES: Final[Mapping[str, str]] = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "timezone_aware": _TIME,
    "string_pattern_mismatch": "must not contain the character NUL",
}


def explain_parameter(problem: Mapping[str, Any]) -> str:
    """Return a sentence about the value of a parameter, without the parameter's name.

    `problem` is an error of pydantic, as FastAPI reports it.
    """
    kind, message = problem["type"], str(problem["msg"])
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    rule = _RULES.get(kind, message)
    value = problem.get("input")
    shown = value if not isinstance(value, str) or len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    return f"{rule.format_map(problem.get('ctx', {}))}, not {json_line(shown)}"
