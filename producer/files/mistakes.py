"""Group the mistakes of a file by their field and their rule, whatever the values in them are."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pydantic import Field

from producer.contract.batches import FIRST_LINES
from producer.contract.chunks import KIND_MODELS
from producer.files.columns import COLUMNS, COURSE_COLUMNS, STUDENT_COLUMNS
from producer.files.rows import CUT_OFF
from producer.schemas import Code, ContractModel, Kind

MAX_GROUPS: Final = 100
"""The most groups of a file; a JSON Lines file may have as many unknown fields as it has lines."""

OTHERS: Final = "other mistakes; the lines say which"
"""The message of the group of all mistakes that are not in one of the first `MAX_GROUPS`."""

_INDEX = re.compile(r"\[\d+\]")


class _Rule(NamedTuple):
    """What the message of a mistake is without the value: `message` replaces what is matched."""

    pattern: re.Pattern[str]
    message: str


def _rule(pattern: str, message: str) -> _Rule:
    return _Rule(re.compile(pattern, re.DOTALL), message)


_RULES: Final = (
    _rule(r"^.* is not an action; ", "the text is not an action; "),
    _rule(r"^.* is not one of our keys, ", "the text is not one of our keys, "),
    _rule(r"^has \d+ characters; ", "has too many characters; "),
    _rule(r"^.* stands for a missing value; ", "the text stands for a missing value; "),
    _rule(r"^.* contains invisible characters; ", "the text contains invisible characters; "),
    _rule(r"^cell \d+ ", "a cell "),
    _rule(
        r"^the line has \d+ cells?, but the header has (\d+); ",
        r"the line does not have as many cells as the header, which has \1; ",
    ),
    _rule(
        r"^the line has \d+ cells?, but needs (\d+ to \d+); ",
        r"the line does not have \1 cells; ",
    ),
    _rule(r"below another header, line \d+, ", "below another header, "),
    _rule(r" at column \d+; correct the line$", "; correct the line"),
    _rule(r" in \d+ places, which are not listed$", " in many places"),
    _rule(r"^(must .*?), not .*$", r"\1"),
    _rule(r"^no (student|course) has the .*$", r"the \1 is not in the roster"),
    _rule(r"^.* ahead of the system's clock \(.*?\); ", "the time lies ahead of the clock; "),
    _rule(
        r"^.* lies before .*?, and what happened before",
        "the time lies before the kept history, and what happened before",
    ),
    _rule(r"^.* are the same course; ", "the same course is in both lists; "),
    _rule(r"^request id .* was already ", "the request id was already "),
    _rule(r"; and \d+ more problems?$", ""),
)
"""The messages of refusals that show a value, or say where it stands: those of the reader, of the
contract and of a worker."""


_FIELDS: Final = frozenset(
    name for kind in Kind for name in (*COLUMNS[kind], *KIND_MODELS[kind].model_fields)
)
"""Our columns, and the fields of the contract."""


class MistakeGroup(ContractModel):
    """All lines of a file that have the same mistake: the same rule for the same column."""

    message: str = Field(description="The rule, without the value that breaks it.")
    field: str | None = Field(description="The column or field; null if it is the line as a whole.")
    count: int = Field(description="The number of lines.")
    first_lines: tuple[int, ...] = Field(description="The first of these lines, in order.")
    example: str = Field(description="What is said about the first of these lines.")


def rule_of(message: str, field: str | None) -> str:
    """Return the rule that the message of a mistake names, without the field and the value."""
    rule = message.removesuffix(CUT_OFF)
    if field is not None:
        rule = rule.removeprefix(f"{field}: ")
    for pattern, general in _RULES:
        rule = pattern.sub(general, rule, count=1)
    return rule


def field_of(code: Code, message: str, mapping: Mapping[str, str]) -> str | None:
    """Return the column of ours, or the field, that the refusal of a line is about, if any.

    `mapping` has our columns of a CSV file; it is empty for JSON Lines.
    """
    if code is Code.UNKNOWN_STUDENT:
        return next((name for name in STUDENT_COLUMNS if name in mapping), "student_id")
    if code is Code.UNKNOWN_COURSE:
        default = "course_id" if mapping else "course_ids"
        return next((name for name in COURSE_COLUMNS if name in mapping), default)
    if code is Code.REQUEST_ID_REUSED:
        return "request_id"
    name = _INDEX.sub("", message.partition(": ")[0])
    return name if name in _FIELDS else None


class Mistakes:
    """Counts the mistakes of a file. Each line counts once, for its first mistake."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str | None, str], MistakeGroup] = {}

    def add(self, line: int, field: str | None, message: str) -> None:
        """Count the first mistake of a line; `message` is what is said about it."""
        name = None if field is None else _INDEX.sub("", field)
        key = (name, rule_of(message, field))
        if key not in self._groups and len(self._groups) >= MAX_GROUPS:
            key = (None, OTHERS)
        group = self._groups.get(key)
        if group is None:
            group = MistakeGroup(
                message=key[1], field=key[0], count=0, first_lines=(), example=message
            )
        lines = (*group.first_lines, line)[:FIRST_LINES]
        more = {"count": group.count + 1, "first_lines": lines}
        self._groups[key] = group.model_copy(update=more)

    def __iter__(self) -> Iterator[MistakeGroup]:
        """Yield the groups, that of the most lines first."""
        yield from sorted(self._groups.values(), key=lambda group: -group.count)
