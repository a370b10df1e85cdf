"""Write text, JSON and times for the user of a command: in one form, and safe for a terminal."""

import json
import shlex
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel


def printable(text: str, keep: str = "") -> str:
    """Return text with its control characters escaped, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def shell_word(text: str) -> str:
    """Return text as one word of a shell command that a person may copy.

    Clients choose ids: they may hold spaces, or what a shell would run.
    """
    if text.isprintable():
        return shlex.quote(text)
    # $'…' is understood by bash, ksh and zsh.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{''.join(map(_in_shell, escaped))}'"


def shell_argument(text: str) -> str:
    """Return text as the last argument of a shell command that a person may copy.

    An argument that begins with a hyphen comes after `--`: it is no option.
    """
    return f"-- {shell_word(text)}" if text.startswith("-") else shell_word(text)


def _in_shell(character: str) -> str:
    if character.isprintable():
        return character
    escaped = character.encode("unicode_escape").decode()
    # Beyond ASCII, the shell would take an escape with an x for a byte.
    return escaped if character.isascii() else escaped.replace("\\x", "\\u00")


def moment_text(moment: datetime) -> str:
    """Return a moment for people, in UTC and to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def json_line(data: Any) -> str:
    """Return data as one line of JSON, without characters that a terminal would obey.

    `data` may hold models of the contract. Moments are written in UTC and to the microsecond, for
    example `2026-09-01T08:15:00.000000Z`.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text if text.isprintable() else "".join(map(_in_json, text))


def _plain(value: object) -> Any:
    """Return a value that JSON does not know in a form that it knows. Raises TypeError."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).isoformat(timespec="microseconds")
        return moment.replace("+00:00", "Z")
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _in_json(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
