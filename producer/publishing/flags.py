"""Check the flags of calls: the arguments that may only be true or false."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from producer.errors import InvalidRequest
from producer.schemas import Code, EnrollmentProblem

_MAX_SHOWN = 40
"""The most characters of a wrong value in a message."""


def flags_of(method: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments of a method whose default is true or false."""
    defaults: Mapping[str, Any] = getattr(method, "__kwdefaults__", None) or {}
    return frozenset(name for name, value in defaults.items() if isinstance(value, bool))


def check_flags(flags: Collection[str], given: Mapping[str, Any]) -> None:
    """Raise InvalidRequest unless every flag that is given is a bool.

    Nothing is taken for one: the text "no" would count as true.
    """
    problems = tuple(
        EnrollmentProblem(code=Code.INVALID_REQUEST, message=_message(name, value), field=name)
        for name, value in given.items()
        if name in flags and not isinstance(value, bool)
    )
    if problems:
        raise InvalidRequest(problems)


def _message(name: str, value: object) -> str:
    kind = (
        "None" if value is None else f"{value!a:.{_MAX_SHOWN}}, which is a {type(value).__name__}"
    )
    return f"{name}: must be True or False, not {kind}"
