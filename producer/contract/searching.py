"""Define the search of students and courses: its text, its rule and its results.

Upper and lower case are the same, for every letter and on every database, so a pattern names both
forms of a letter. The locale of a database, which may know only ASCII, has no say. A letter without
an accent also stands for those with one, but only if nothing matches otherwise.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Final, NamedTuple, Self

from pydantic import BeforeValidator, Field, StringConstraints

from producer.fields import MAX_TEXT, NO_NUL
from producer.schemas import ContractModel


def _stripped(text: object) -> object:
    """Return a text without the spaces at which Python divides words: more than pydantic strips.

    A text that has no word would be found in every name.
    """
    return text.strip() if isinstance(text, str) else text


SearchText = Annotated[
    str,
    StringConstraints(
        strict=True, strip_whitespace=True, min_length=1, max_length=MAX_TEXT, pattern=NO_NUL
    ),
    BeforeValidator(_stripped),
]


_NUMBER: Final = re.compile(r"0*([1-9][0-9]*)(?:\.0+)?")
_APOSTROPHES: Final = "'\u2019"
"""The apostrophe of a keyboard, and the one that text processors make of it."""


class Search(NamedTuple):
    """What is searched for: the whole text, a number, or all words of the text in any order."""

    whole: str
    words: tuple[str, ...]
    number: str | None
    """The text without zeros in front and without `.0` at the end, if it is a number.

    Spreadsheets take zeros from ids, and add `.0`, so ids that differ only in these match as well.
    """

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the search for a text; spaces around it and commas at words do not count."""
        whole = text.strip()
        words = [word.strip(",") for word in whole.split()]
        number = _NUMBER.fullmatch(whole)
        return cls(
            whole,
            tuple(dict.fromkeys(word for word in words if word)) or (whole,),
            number[1] if number else None,
        )


def pattern_of(text: str, literal: Callable[[str], str], *, any_accent: bool = False) -> str:
    """Return a pattern for a text in any case, for GLOB or for regular expressions.

    Both have classes of characters; `literal` returns the pattern for a character without case.
    With `any_accent`, a letter of ASCII also stands for those that have an accent.
    """
    accented = _accented_letters() if any_accent else {}
    classes = ((c, _in_both_cases(c) + accented.get(c.lower(), "")) for c in text)
    return "".join(f"[{every}]" if len(every) > 1 else literal(c) for c, every in classes)


def has_plain_letters(text: str) -> bool:
    """Return whether a letter of a text also stands for letters that have an accent."""
    return not _accented_letters().keys().isdisjoint(text.lower())


@cache
def _accented_letters() -> Mapping[str, str]:
    """Return the letters of European languages that a letter of ASCII stands for, in both cases."""
    letters = {"d": "\u0111\u0110", "i": "\u0131", "l": "\u0142\u0141", "o": "\u00f8\u00d8"}
    for letter in map(chr, range(0xC0, 0x180)):
        base = unicodedata.normalize("NFD", letter)[0].lower()
        if base.isascii() and base.isalpha():
            letters[base] = letters.get(base, "") + letter
    return letters


def _in_both_cases(character: str) -> str:
    """Return a letter in upper and lower case, both apostrophes, and anything else as it is."""
    if character in _APOSTROPHES:
        return _APOSTROPHES
    upper = character.upper()
    forms = (character, character.lower(), upper, upper.lower())
    return "".join(sorted({form for form in forms if len(form) == 1}))


class FoundStudent(ContractModel):
    """A student found by a search."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The SIS id.")
    name: str | None = Field(description="The student's name; null if upstream sent none.")
    email: str | None = Field(description="The e-mail address; null if upstream sent none.")


class FoundStudents(ContractModel):
    """The students found by a search, the best match first."""

    students: tuple[FoundStudent, ...] = Field(
        description="In this order: the student with the text as SIS id, those with it in another"
        " case, those with it without or with zeros in front if it is a number, those with it as"
        " e-mail address, and those with all of its words in their names."
    )
    more: bool = Field(description="True if there are others, or may be: search for more words.")


class FoundCourse(ContractModel):
    """A course that a search has found."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The SIS id.")
    title: str | None = Field(description="The course's title; null if upstream sent none.")


class FoundCourses(ContractModel):
    """The courses that a search has found, the best match first."""

    courses: tuple[FoundCourse, ...] = Field(
        description="In this order: the course with the text as SIS id, those with it in another"
        " case, those with it without or with zeros in front if it is a number, and those with all"
        " of its words in their titles."
    )
    more: bool = Field(description="True if there are others, or may be: search for more words.")
