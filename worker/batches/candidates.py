"""List which ids may have been meant by an id that does not exist. Pure functions, no SQL.

Spreadsheets and exports change ids in few ways. Each function here undoes one of them, so that the
ids that may have been meant can be looked up by an index.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from producer.contract.batches import Cause

Causes = tuple[Cause, ...]
"""How an id was changed, in the order of `Cause`."""

MAX_CANDIDATES: Final = 100
"""The most ids that are tried for one that does not exist."""

MAX_ZEROS: Final = 10
"""The most leading zeros that a number may have lost or gained."""

_MAX_ZEROS_OF_TEXT: Final = 3
"""The most leading zeros that are tried before an id with letters: they are rarely lost."""

_DECIMALS = re.compile(r"([0-9](?:.*[0-9])?)[.,]0+")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:([^0-9A-Za-z])[0-9]{3})(?:\1[0-9]{3})*")
_SCIENTIFIC = re.compile(r"([0-9]{1,3})(?:[.,]([0-9]{1,15}))?[eE]\+?([0-9]{1,2})")
_QUOTES = "\"'`\N{ACUTE ACCENT}«»‹›“”„‟‘’‚‛"  # noqa: RUF001 - these very characters are meant.
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\uff0d"), "-")


def candidates(sis_id: str) -> dict[str, Causes]:
    """Return the ids that a SIS id may have been, each with what changed it: one cause or two.

    Those with one cause come first, and there are at most `MAX_CANDIDATES`.
    """
    found: dict[str, Causes] = {sis_id: ()}
    for text, causes in islice(_changes(sis_id), MAX_CANDIDATES):
        found.setdefault(text, causes)
    del found[sis_id]
    return found


def _changes(sis_id: str) -> Iterator[tuple[str, Causes]]:
    steps = list(_UNDO.items())
    once = []
    for number, (cause, undo) in enumerate(steps, 1):
        for text in _others(sis_id, undo):
            yield text, (cause,)
            if cause not in _ZEROS:
                once.append((text, cause, steps[number:]))
    for text, cause, later_steps in once:
        for other, undo in later_steps:
            for original in _others(text, undo):
                yield original, ordered((cause, other))


def _others(text: str, undo: Callable[[str], Iterator[str]]) -> Iterator[str]:
    return (other for other in undo(text) if other and other != text)


def ordered(causes: tuple[Cause, ...]) -> Causes:
    """Return causes in their usual order."""
    return tuple(sorted(causes, key=_ORDER.index))


def bare(text: str) -> str:
    """Return a text without its spaces and invisible characters."""
    return "".join(filter(_is_visible, text))


_FILLERS: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""Characters that are not shown although Unicode counts them as letters or marks."""


def _is_visible(character: str) -> bool:
    invisible = character.isspace() or unicodedata.category(character) in ("Cf", "Cc")
    return not invisible and character not in _FILLERS


def _without_spaces(text: str) -> Iterator[str]:
    if text.isascii() and text.isprintable() and " " not in text:
        return
    visible = (c for c in text if c.isspace() or _is_visible(c))
    yield " ".join("".join(visible).split())
    yield bare(text)


def _without_quotes(text: str) -> Iterator[str]:
    inner = text.strip().removeprefix("=").strip(_QUOTES + " ")
    if inner != text and text.strip(_QUOTES + " =") == inner:
        yield inner


def _without_decimals(text: str) -> Iterator[str]:
    if match := _DECIMALS.fullmatch(text):
        yield match[1]


def _without_thousands(text: str) -> Iterator[str]:
    if match := _THOUSANDS.fullmatch(text):
        yield text.replace(match[1], "")


def _from_scientific(text: str) -> Iterator[str]:
    """Yield the exact number, and the ids such as `12E3` that a spreadsheet takes for a number."""
    if (number := _Scientific.read(text)) is None:
        return
    if number.zeros >= 0:
        yield number.digits + "0" * number.zeros
    significant = number.digits.rstrip("0") or "0"
    zeros = number.zeros + len(number.digits) - len(significant)
    for more in range(3):
        if zeros - more >= 0:
            for exponent in (f"{zeros - more}", f"{zeros - more:02}"):
                original = f"{significant}{'0' * more}E{exponent}"
                # Of the same letters, only their case was changed.
                if original.casefold() != text.casefold():
                    yield original


def _with_zeros(text: str) -> Iterator[str]:
    most = MAX_ZEROS if _is_number(text) else _MAX_ZEROS_OF_TEXT
    for count in range(1, most + 1):
        yield "0" * count + text


def _without_zeros(text: str) -> Iterator[str]:
    zeros = len(text) - len(text.lstrip("0"))
    for count in range(1, min(zeros, MAX_ZEROS) + 1):
        yield text[count:]


def _in_other_case(text: str) -> Iterator[str]:
    if not _is_number(text):
        yield text.upper()
        yield text.lower()
        yield text.capitalize()


def _look_alikes(text: str) -> Iterator[str]:
    if not text.isascii():
        yield unicodedata.normalize("NFKC", text).translate(_DASHES)
        yield unicodedata.normalize("NFC", text)
        yield unicodedata.normalize("NFD", text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


_UNDO: Final[Mapping[Cause, Callable[[str], Iterator[str]]]] = {
    Cause.SPACES: _without_spaces,
    Cause.QUOTED: _without_quotes,
    Cause.DECIMALS: _without_decimals,
    Cause.SCIENTIFIC: _from_scientific,
    Cause.THOUSANDS: _without_thousands,
    Cause.LOOK_ALIKE: _look_alikes,
    Cause.LETTER_CASE: _in_other_case,
    Cause.LEADING_ZEROS_LOST: _with_zeros,
    Cause.LEADING_ZEROS_ADDED: _without_zeros,
}
"""How to undo what happened to an id; each function yields the texts that the id may have been.

What surrounds an id is undone first, so that a second step finds the rest of it.
"""

_ZEROS: Final = (Cause.LEADING_ZEROS_LOST, Cause.LEADING_ZEROS_ADDED)
"""What is undone last."""

_ORDER: Final = tuple(Cause)


class _Scientific(NamedTuple):
    """A number in scientific notation: its digits, and how many zeros follow them."""

    digits: str
    zeros: int

    @classmethod
    def read(cls, text: str) -> "_Scientific | None":
        match = _SCIENTIFIC.fullmatch(text)
        if match is None:
            return None
        whole, fraction, exponent = match[1], match[2] or "", int(match[3])
        digits = (whole + fraction).lstrip("0") or "0"
        return cls(digits, exponent - len(fraction))


def is_scientific(text: str) -> bool:
    """Return whether a text can only be a number in scientific notation, such as `1.23E+05`."""
    return "+" in text and _Scientific.read(text) is not None


def rounded_ranges(text: str) -> list[tuple[str, str]]:
    """Return the ranges of the numbers that are rounded to this one in scientific notation.

    Each range has the same number of leading zeros at both ends, and so the same length. There are
    no ranges if the text is not such a number, or is an exact one.
    """
    number = _Scientific.read(text) if is_scientific(text) else None
    if number is None or number.zeros < 1:
        return []
    exact = int(number.digits) * 10**number.zeros
    half = 5 * 10 ** (number.zeros - 1)
    length = len(str(exact))
    # Programs differ in how they round what lies in the middle.
    least, largest = max(exact - half, 10 ** (length - 1)), min(exact + half, 10**length - 1)
    return [(f"{'0' * zeros}{least}", f"{'0' * zeros}{largest}") for zeros in range(MAX_ZEROS + 1)]


def outline(sis_id: str) -> str:
    """Return a text that ids share if they differ only in case, spaces, leading zeros or look."""
    return _folded(bare(_looks(sis_id))).lstrip("0")


def differences(sis_id: str, other: str) -> Causes:
    """Return in which ways two ids with the same outline differ."""
    zeros = (
        Cause.LEADING_ZEROS_LOST
        if _zeros(bare(sis_id)) < _zeros(bare(other))
        else Cause.LEADING_ZEROS_ADDED
    )
    steps: dict[Cause, Callable[[str], str]] = {
        Cause.LOOK_ALIKE: _looks,
        Cause.SPACES: bare,
        Cause.LETTER_CASE: _folded,
        zeros: lambda text: text.lstrip("0"),
    }

    def is_needed(cause: Cause) -> bool:
        one, two = sis_id, other
        for step, equalize in steps.items():
            if step is not cause:
                one, two = equalize(one), equalize(two)
        return one != two

    needed = ordered(tuple(filter(is_needed, steps)))
    # If two steps undo the same difference, such as a ligature, neither of them is needed.
    return needed or ((Cause.LOOK_ALIKE,) if sis_id != other else ())


def _looks(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_DASHES)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


def _zeros(text: str) -> int:
    return len(text) - len(text.lstrip("0"))
