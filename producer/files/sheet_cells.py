"""Follow the cells of a sheet in its XML: where they end, how long they are, which are errors."""

import re
from array import array
from collections.abc import Mapping

MAX_ERRORS = 100_000
"""The most cells of a sheet that may hold an error."""

_NO_RESULT = "a formula without a result"
_PLACE = re.compile("([A-Za-z]{1,3})([1-9][0-9]{0,6})")
_ROW_NUMBER = re.compile("[1-9][0-9]{0,6}")
_LONGEST_ERROR = 100
_LONGEST_NUMBER = 10
_LONGEST_TAG = 1 << 20


class Cells:
    """Counts the cells of a sheet as their elements are read; rows and columns count from 0.

    `text_sizes` is the size of each text that cells share. `misplaced` is the first place of a row
    or cell that no program writes: a library may understand it differently, and make room for more
    cells than are counted here.
    """

    def __init__(self, text_sizes: "array[int]") -> None:
        self._text_sizes = text_sizes
        self._longest = max(text_sizes, default=0)
        self.rows = self.columns = 0
        self.text_bytes = 0
        self.errors: dict[tuple[int, int], str] = {}
        self.misplaced: str | None = None
        self._next_row = self._next_column = 0
        self._place = (0, 0)
        self._type = ""
        self._value = ""
        self._reads_value = self._has_formula = self._is_divided = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Note that an element begins."""
        tag = local_name(tag)
        if tag == "c":
            self._begin_cell(attributes)
        elif tag == "row":
            number = attributes.get("r")
            if number is not None and self._is_place(_ROW_NUMBER, number):
                self._next_row = int(number) - 1
            self.rows = max(self.rows, self._next_row + 1)
        elif tag == "f":
            self._has_formula = True
        elif tag in ("v", "t"):
            self._reads_value = True
            if tag == "v":
                self._value = ""
                self._is_divided = False

    def _begin_cell(self, attributes: Mapping[str, str]) -> None:
        row, column = self._next_row, self._next_column
        place = attributes.get("r")
        if place is not None and self._is_place(_PLACE, place):
            letters = place.rstrip("0123456789")
            row, column = int(place[len(letters) :]) - 1, column_number(letters) - 1
        self._place = row, column
        self._next_column = column + 1
        self.rows = max(self.rows, row + 1)
        self.columns = max(self.columns, column + 1)
        self._type = attributes.get("t", "n")
        self._value = ""
        self._has_formula = False

    def _is_place(self, pattern: re.Pattern[str], place: str) -> bool:
        is_place = pattern.fullmatch(place) is not None
        if not is_place and self.misplaced is None:
            self.misplaced = place
        return is_place

    def text(self, text: str) -> None:
        """Note a text between elements, or a piece of it."""
        if self._reads_value and len(self._value) < _LONGEST_ERROR:
            self._is_divided = self._value != ""
            self._value += text[:_LONGEST_ERROR]

    def end(self, tag: str) -> None:
        """Note that an element ends."""
        tag = local_name(tag)
        if tag in ("v", "t"):
            self._reads_value = False
            if tag == "v" and self._type == "s":
                self.text_bytes += self._shared_size()
        elif tag == "row":
            self._next_row += 1
            self._next_column = 0
        elif tag == "c" and (self._type == "e" or (self._type == "n" and self._lacks_result)):
            self._add_error()

    def _shared_size(self) -> int:
        """Return the size of the text that a cell shares; of the longest one if it is unclear.

        A library may take a piece of a number that is divided, for example by a comment.
        """
        number, is_short = self._value, len(self._value) < _LONGEST_NUMBER
        is_plain = is_short and number.isascii() and number.isdecimal() and not self._is_divided
        index = int(number) if is_plain else len(self._text_sizes)
        return self._text_sizes[index] if index < len(self._text_sizes) else self._longest

    @property
    def _lacks_result(self) -> bool:
        return self._has_formula and not self._value

    def _add_error(self) -> None:
        if len(self.errors) <= MAX_ERRORS:
            self.errors[self._place] = self._value or _NO_RESULT


class UsualCells:
    """Counts the cells of a sheet that is written as Excel does, many times as fast as `Cells`.

    `is_usual` is false if a closer look is needed: a cell is written in another way, holds an
    error, or has a formula; or if a tag, or a text between two, is very long.
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
        # What is put together again and again must not grow with the file.
        self.is_usual = self.is_usual and len(self._rest) <= _LONGEST_TAG
        if self.is_usual:
            self._count(block[:end])
        else:
            self._rest = b""

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


def column_number(letters: str) -> int:
    """Return the number of a column, counted from 1, by its letters."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def local_name(tag: str) -> str:
    """Return the name of an element without its prefix."""
    return tag.rpartition(":")[2]
