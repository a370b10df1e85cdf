"""Write the place where a page begins as one opaque text, and read it again."""

import base64
import json
from typing import TypeVar

from pydantic import TypeAdapter

from producer.web.problems import Refused

T = TypeVar("T")


def write_cursor(adapter: TypeAdapter[T], place: T) -> str:
    """Return a place, for example a moment and an id, as text for a query."""
    text = json.dumps(adapter.dump_python(place, mode="json"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_cursor(adapter: TypeAdapter[T], cursor: str) -> T:
    """Return the place that a cursor stands for. Raises Refused if it is not one of ours."""
    try:
        text = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        return adapter.validate_python(json.loads(text))
    except (ValueError, RecursionError):
        raise Refused(
            422, "bad_cursor", "The cursor is not valid; use `next` from the previous page."
        ) from None
