"""Define the search of students and courses: its text, its rule and its results.

Upper and lower case are the same, for every letter and on every database, so a pattern names both
forms of a letter. The locale of a database, which may know only ASCII, has no say.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple, Self

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


class Search(NamedTuple):
    """What is searched for: the whole text, or all of its words in any order."""

    whole: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the search for a text; spaces around it do not count."""
        return cls(text.strip(), tuple(dict.fromkeys(text.split())))


def pattern_of(text: str, literal: Callable[[str], str]) -> str:
    """Return a pattern for a text in any case, for GLOB or for regular expressions.

    Both have classes of characters; `literal` returns the pattern for a character without case.
    """
    return "".join(
        f"[{both}]" if len(both := _in_both_cases(character)) > 1 else literal(character)
        for character in text
    )


def _in_both_cases(character: str) -> str:
    """Return a letter in upper and lower case; anything else as it is."""
    upper = character.upper()
    forms = (character, character.lower(), upper, upper.lower())
    return "".join(sorted({form for form in forms if len(form) == 1}))


class FoundStudent(ContractModel):
    """A student whom a search has found."""

    id: int = Field(description="Our key.")
    sis_id: str = Field(description="The SIS id.")
    name: str | None = Field(description="The student's name; null if upstream sent none.")
    email: str | None = Field(description="The e-mail address; null if upstream sent none.")


class FoundStudents(ContractModel):
    """The students whom a search has found, the best match first."""

    students: tuple[FoundStudent, ...] = Field(
        description="In this order: the student with the text as SIS id, those with it in another"
        " case, those with it as e-mail address, and those with all of its words in their names."
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
        " case, and those with all of its words in their titles."
    )
    more: bool = Field(description="True if there are others, or may be: search for more words.")
