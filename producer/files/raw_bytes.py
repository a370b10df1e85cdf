"""Represent bytes that are not text within text, so that they can be written again unchanged.

Each half of a byte becomes one of the 32 noncharacters from U+FDD0 on, which Unicode reserves for
use inside programs: files do not hold them, and every database and JSON parser accepts them.
"""

import re
from collections.abc import Iterable

_HIGH, _LOW = 0xFDD0, 0xFDE0
_PAIRS = re.compile("(?:[\ufdd0-\ufddf][\ufde0-\ufdef])+")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
MARK = "\udcff"
"""Stands before bytes that could not be decoded, so that a line with them is refused."""


def as_pairs(raw: bytes) -> str:
    """Return bytes as noncharacters, two for each."""
    return "".join(chr(_HIGH + (byte >> 4)) + chr(_LOW + (byte & 15)) for byte in raw)


def storable(row: Iterable[str]) -> tuple[str, ...]:
    """Return the cells as text that every database can store; NUL and bad bytes become pairs."""
    return tuple(_NO_TEXT.sub(_pairs_for, cell) for cell in _without_marks(row))


def _without_marks(row: Iterable[str]) -> Iterable[str]:
    return (re.sub(f"{MARK}(?=[\ufdd0-\ufddf])", "", cell) for cell in row)


def _pairs_for(match: re.Match[str]) -> str:
    character = match[0]
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return as_pairs(character.encode("utf-8", errors))


def encoded(text: str, encoding: str) -> bytes:
    """Return text in an encoding, with the bytes that its pairs stand for.

    What the encoding lacks is written as an escape, as Python writes it.
    """
    parts = []
    start = 0
    for pairs in _PAIRS.finditer(text):
        parts += [_encode(text[start : pairs.start()], encoding), _bytes_of(pairs[0], encoding)]
        start = pairs.end()
    return b"".join([*parts, _encode(text[start:], encoding)])


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "backslashreplace")


def _bytes_of(pairs: str, encoding: str) -> bytes:
    halves = [ord(character) & 15 for character in pairs]
    raw = bytes(high << 4 | low for high, low in zip(halves[::2], halves[1::2], strict=True))
    # Half of a unit of UTF-16 would shift everything after it.
    unit = len("\t".encode(encoding))
    return raw if len(raw) % unit == 0 else "\ufffd".encode(encoding)
