"""Refuse parameters of an upload that would be passed over: unknown ones, and fields of a form.

An option that is misspelt, or sent in another place, would otherwise change nothing unnoticed: a
file that was meant to drop students would enroll them.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.models import Dependant

from producer.web.problems import Refused

_SEVERAL = frozenset({"map"})
"""The parameters that may be repeated."""


def check_parameters(request: Request) -> None:
    """Raise Refused for a parameter in the address that this call does not know, or not twice."""
    known = _known_to(request)
    for name in request.query_params:
        if name not in known:
            close = get_close_matches(name.lower(), known, 1)
            meant = f"did you mean {close[0]}?" if close else f"they are {', '.join(known)}."
            raise Refused(
                422,
                "unknown_parameter",
                f"{name[:60]!a} is not one of the parameters of this call; {meant}",
            )
        if name not in _SEVERAL and len(request.query_params.getlist(name)) > 1:
            raise Refused(422, "unknown_parameter", f"Send the parameter {name} only once.")


def check_form_fields(request: Request, names: Iterable[str]) -> None:
    """Raise Refused for a field of a form with the name of a parameter; other fields do not matter.

    Parameters are read from the address only.
    """
    misplaced = next((name for name in names if name in _known_to(request)), None)
    if misplaced is not None:
        raise Refused(
            422,
            "unknown_parameter",
            f"{misplaced} is a field of the form, where it is not read. Write it into the address,"
            f" for example {request.url.path}?{misplaced}=...",
        )


def _known_to(request: Request) -> list[str]:
    """Return the names of the parameters of a call."""
    return sorted(set(_names_of(request.scope["route"].dependant)))


def _names_of(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _names_of(needed)
