"""Bound the size of a lookup's answer while it is being made, before it can fill the memory."""

from typing import Final

from pydantic import BaseModel

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of the largest answer to a lookup, as JSON in ASCII."""


class AnswerTooLarge(Exception):
    """An answer would be too large. The message says what the client can ask for instead."""


class AnswerSize:
    """The size of an answer so far. `remedy` is what a client can do if it becomes too large."""

    def __init__(self, remedy: str) -> None:
        self.left = MAX_ANSWER
        """Bytes by which the answer may still grow."""
        self._remedy = remedy

    def add(self, part: BaseModel | None, times: int = 1) -> None:
        """Count a part that occurs this many times in the answer. Raises AnswerTooLarge."""
        if part is not None:
            self.left -= times * len(part.model_dump_json(ensure_ascii=True))
        if self.left < 0:
            raise self.exceeded()

    def exceeded(self) -> AnswerTooLarge:
        """Return the error that says that the answer is too large."""
        return AnswerTooLarge(f"the answer would have more than {MAX_ANSWER} bytes; {self._remedy}")


def fewer_ids(ids: int) -> str:
    """Return the remedy for a lookup of this many ids."""
    if ids == 1:
        return "ask the operator to read the data of this id from the database"
    return f"ask for fewer than {ids} ids at a time"
