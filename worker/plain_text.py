"""Make text from outside safe for terminals, logs and error messages."""

import json
from typing import Any

from producer.contract.printable import printable


def first_line(error: BaseException) -> str:
    """Return the first line of an error, escaped and cut: it may quote a whole message."""
    lines = str(error).strip().splitlines()
    return ascii(lines[0])[1:-1][:200] if lines else type(error).__name__


def shown(value: object) -> str:
    """Return a value, escaped and cut."""
    return ascii(value)[:100]


def whole_text(value: Any) -> Any:
    """Return a JSON value with U+FFFD in place of every lone surrogate.

    JSON can name half a character, but no other encoding can: an answer could not be written.
    """
    if "\\ud" not in json.dumps(value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def waiting_for_database(sentence: str) -> str:
    """Return the advice for work that waits because the database refuses it."""
    return (
        f"The database is refusing work at the moment: {printable(sentence)[:300]}. Nothing is"
        " lost: processing continues by itself once the operator has fixed this. Do not submit"
        " again."
    )
