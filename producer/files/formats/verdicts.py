"""Define what a line of another system asks for, once it has been judged."""

from typing import NamedTuple

from producer.files.formats.base import KEEP
from producer.schemas import Action

ENDED = "ended"
"""The reason of a drop because of a date in the past."""
TERM_ENDED = "term ended"
"""The reason of a drop because the last term of the class is over."""
AHEAD, BAD_DATE, UNSURE, GONE = "ahead", "bad date", "unsure", "gone"
"""Remarks on a line: it begins later, a date cannot be read, its end may not be meant, its status
ends what a line of a roster stands for."""


class Verdict(NamedTuple):
    """What a line asks for; `why` is the reason of a drop, or the role that is passed over.

    `remark` is what is counted of the line besides, with an `example`.
    """

    action: Action | None
    why: str = ""
    remark: str = ""
    example: str = ""

    @property
    def is_gone(self) -> bool:
        """Return whether a status ends what the line of a roster stands for."""
        return self.remark == GONE


PLAIN = Verdict(KEEP)
"""The verdict on almost every line: it is read, and there is nothing to say about it."""
