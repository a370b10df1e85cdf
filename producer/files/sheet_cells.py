"""Follow the cells of a sheet in its XML: where they end, how long they are, which are errors."""

import re
from array import array
from collections.abc import Mapping

MAX_ERRORS = 100_000
"""The most cells of a sheet that may hold an error."""

_NO_RESULT = "a formula without a result"
_PLACE = re.compile("([A-Z]{1,3})([0-9]{1,7})", re.IGNORECASE)
_LONGEST_ERROR = 100


class Cells:
    """Counts the cells of a sheet as their elements are read; rows and columns count from 0.

    `text_sizes` is the size of each text that cells share.
    """

    def __init__(self, text_sizes: "array[int]") -> None:
        self._text_sizes = text_sizes
        self.rows = self.columns = 0
        self.text_bytes = 0
        self.errors: dict[tuple[int, int], str] = {}
        self._row = self._column = -1
        self._type = ""
        self._value = ""
        self._reads_value = self._has_formula = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Note that an element begins."""
        tag = local_name(tag)
        if tag == "c":
            self._begin_cell(attributes)
        elif tag == "row":
            number = attributes.get("r", "")
            self._row = int(number[:9]) - 1 if number.isdecimal() else self._row + 1
            self._column = -1
            self.rows = max(self.rows, self._row + 1)
        elif tag == "f":
            self._has_formula = True
        elif tag in ("v", "t"):
            self._reads_value = True

    def _begin_cell(self, attributes: Mapping[str, str]) -> None:
        self._column += 1
        place = _PLACE.fullmatch(attributes.get("r", ""))
        if place is not None:
            self._column = column_number(place[1]) - 1
            self._row = int(place[2]) - 1
        self.rows = max(self.rows, self._row + 1)
        self.columns = max(self.columns, self._column + 1)
        self._type = attributes.get("t", "n")
        self._value = ""
        self._has_formula = False

    def text(self, text: str) -> None:
        """Note a text between elements."""
        if self._reads_value and len(self._value) < _LONGEST_ERROR:
            self._value += text[:_LONGEST_ERROR]

    def end(self, tag: str) -> None:
        """Note that an element ends."""
        tag = local_name(tag)
        if tag in ("v", "t"):
            self._reads_value = False
        elif tag == "c":
            if self._type == "s" and self._value.isdecimal():
                index = int(self._value)
                self.text_bytes += self._text_sizes[index] if index < len(self._text_sizes) else 0
            elif self._type == "e" or (self._type == "n" and self._lacks_result):
                self._add_error()

    @property
    def _lacks_result(self) -> bool:
        return self._has_formula and not self._value

    def _add_error(self) -> None:
        if len(self.errors) <= MAX_ERRORS:
            self.errors[self._row, self._column] = self._value or _NO_RESULT


class UsualCells:
    """Counts the cells of a sheet that is written as Excel does, many times as fast as `Cells`.

    `is_usual` is false if a closer look is needed: a cell is written in another way, holds an
    error, or has a formula.
    """

    def __init__(self) -> None:
        self.rows = self.columns = self.count = 0
        self.is_usual = True
        self._rest = b""

    def feed(self, block: bytes) -> None:
        """Take a piece of the XML, which is well-formed."""
        block = self._rest + block
        end = block.rfind(b"<")  # So that no tag is divided.
        self._rest = block[end:]
        if self.is_usual:
            self._count(block[:end])

    def finish(self) -> None:
        """Take what is left at the end."""
        if self.is_usual:
            self._count(self._rest)

    def _count(self, xml: bytes) -> None:
        rows, places = _USUAL_ROW.findall(xml), _USUAL_PLACE.findall(xml)
        if (
            len(rows) != len(_ROW.findall(xml))
            or len(places) != len(_CELL.findall(xml))
            or any(sign in xml for sign in _UNUSUAL)
        ):
            self.is_usual = False
            return
        self.count += len(places)
        numbers = {row for _, row in places}.union(rows)
        self.rows = max(self.rows, *map(int, numbers), 0)
        for letters in {letters for letters, _ in places}:
            self.columns = max(self.columns, column_number(letters.decode()))


_USUAL_ROW = re.compile(rb'<row r="([0-9]{1,7})"')
_USUAL_PLACE = re.compile(rb'<c r="([A-Z]{1,3})([0-9]{1,7})"')
_ROW = re.compile(rb"<(?:[^\s<>/]+:)?row[\s/>]")
_CELL = re.compile(rb"<(?:[^\s<>/]+:)?c[\s/>]")
_UNUSUAL = (b"<f", b":f", b'"e"', b"'e'")
"""What stands in the XML if there is a formula or a cell with an error."""


class LongestText:
    """Finds the size of the longest text in the XML of the texts that cells share, or more."""

    def __init__(self) -> None:
        self.size = 0
        self._rest = b""

    def feed(self, block: bytes) -> None:
        """Take a piece of the XML, which is well-formed."""
        *texts, self._rest = _TEXT_END.split(self._rest + block)
        self.size = max(self.size, len(self._rest), *map(len, texts), 0)


_TEXT_END = re.compile(rb"</(?:[^\s<>/]+:)?si\s*>")


def column_number(letters: str) -> int:
    """Return the number of a column, counted from 1, by its letters."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def local_name(tag: str) -> str:
    """Return the name of an element without its prefix."""
    return tag.rpartition(":")[2]
