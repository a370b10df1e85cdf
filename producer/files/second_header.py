"""Find another header among the rows of a CSV file: two exports were put into one file.

The lines below it have other columns. With the first header, they would enroll or store something
that was not meant, so they are refused until the first header comes again.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, cast

from producer.contract.chunks import RefusedLine
from producer.files.cells import REPEATS_HEADER, Row
from producer.files.columns import COLUMNS, plain_name
from producer.files.first_line import DELIMITERS
from producer.files.raw_bytes import storable
from producer.files.row_blocks import RowBlock

_ANOTHER = (
    "the line is another header, with other columns or separators than the first, as if two files"
    " had been put into one; put this line and those below it into a file of their own, and submit"
    " that file"
)

_OURS = frozenset(name for columns in COLUMNS.values() for name in columns)
_IDS = frozenset(name for name in _OURS if name.endswith(("_id", "_key")))

_MAX_OTHERS = 1_000
"""The most cells that are remembered as no names."""

_SQUEEZED = dict.fromkeys(map(ord, " \t_-\xa0\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""What is left out of cells and names before a quick comparison."""


class Blocks(Protocol):
    """What reads the rows: a block of whole lines at a time."""

    block: str | None
    """The lines of the block that is being read; None if they need a closer look."""


Rows = Iterator[Row | RefusedLine]
RowsOrBlocks = Iterator[Row | RefusedLine | RowBlock]


def refuse_below_others(
    rows: Rows,
    blocks: Blocks,
    header: Sequence[str],
    used: Collection[str],
    telling: int | None = None,
) -> Rows:
    """Yield the rows; refuse lines that are headers, and those below one with other columns.

    `used` has the plain names of the columns of the header that are read. `telling` is the
    position of a column in which no line that is read has the name of a column, such as that of
    roles; then only its cells are looked at.
    """
    return cast("Rows", refuse_in_blocks(rows, blocks, header, used, telling))


def refuse_in_blocks(
    rows: RowsOrBlocks,
    blocks: Blocks,
    header: Sequence[str],
    used: Collection[str],
    telling: int | None = None,
) -> RowsOrBlocks:
    """Do as `refuse_below_others` does; some of the rows may come in blocks, and remain there."""
    others = _Others(header, used)
    looks_like_header, is_name = _row_check(used, telling)
    may_hold_header = _block_check(used)
    block, is_clear = None, False
    for entry in rows:
        if telling is None and blocks.block is not block:
            block = blocks.block
            is_clear = block is not None and not may_hold_header(block)
        if isinstance(entry, tuple):
            if others.header or not (is_clear or not looks_like_header(entry[1])):
                yield others.refused(*entry) or entry
            else:
                yield entry
        elif isinstance(entry, RowBlock):
            is_plain = is_clear
            if telling is not None:  # The next rows may come one by one, and are looked at then.
                is_plain = not any(map(is_name, entry.different_cells(telling)))
            if is_plain and not others.header:
                yield entry
                continue
            for row in entry.rows():
                is_suspect = others.header or looks_like_header(row[1])
                yield (others.refused(*row) if is_suspect else None) or row
        elif entry.cells is None:
            yield entry
        else:
            yield others.refused(entry.line, list(entry.cells)) or entry


class _Others:
    """Refuses lines that are headers, and those below one with other columns than the first."""

    def __init__(self, header: Sequence[str], used: Collection[str]) -> None:
        self._kind_of_line = _classifier(header, used)
        self.header = 0
        """The line of the header with other columns that stands above, or 0."""

    def refused(self, line: int, cells: Sequence[str]) -> RefusedLine | None:
        """Return the refusal of a line, or None."""
        is_header, is_ours = self._kind_of_line(cells)
        if is_header:
            self.header = 0 if is_ours else line
            message = REPEATS_HEADER if is_ours else _ANOTHER
        elif self.header:
            message = _below(self.header)
        else:
            return None
        return RefusedLine(line=line, message=message, cells=storable(cells))


def _block_check(used: Collection[str]) -> Callable[[str], bool]:
    """Return a function that says whether a line of a block may be a header, which is rare.

    A header names a column of ours with an id, or all that are used. The first part of such a name
    stands at the beginning of a cell.
    """
    first_parts = {re.split("[_-]", name)[0] for name in (*_IDS, *sorted(used, key=len)[-1:])}
    at_beginning = re.compile(rf"(?<![\w@.])(?:{'|'.join(map(re.escape, first_parts))})")

    def check(block: str) -> bool:
        text = block.casefold()
        # The search alone would take as long as reading the rows.
        return any(part in text for part in first_parts) and bool(at_beginning.search(text))

    return check


def _row_check(
    used: Collection[str], telling: int | None
) -> tuple[Callable[[Sequence[str]], bool], Callable[[str], bool]]:
    """Return functions that say whether a row has the name of a column, and whether a cell has."""
    names = [name.translate(_SQUEEZED) for name in _IDS.union(used)]
    # The mark of an encoding, also as a program for cp1252 reads it, may precede the first name.
    words = frozenset([*names, *(f"ï»¿{name}" for name in names)])

    def squeezed(cell: str) -> str:
        return cell.casefold().translate(_SQUEEZED)

    is_name = _remembering(lambda cell: squeezed(cell) in words)
    if telling is not None:
        return lambda cells: is_name(cells[telling]), is_name
    return lambda cells: not words.isdisjoint(map(squeezed, cells)), is_name


def _remembering(is_name: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return a function that says whether a cell is a name.

    Cells that are no names are remembered, because there are few different ones, such as roles.
    """
    others: set[str] = set()

    def check(cell: str) -> bool:
        if cell in others:
            return False
        if is_name(cell):
            return True
        if len(others) < _MAX_OTHERS:
            others.add(cell)
        return False

    return check


def _classifier(
    header: Sequence[str], used: Collection[str]
) -> Callable[[Sequence[str]], tuple[bool, bool]]:
    """Return a function that says whether a line is a header, and whether it is the first one."""
    places = [(index, name) for index, name in enumerate(map(plain_name, header)) if name in used]
    wanted = {name for _, name in places}

    def classify(cells: Sequence[str]) -> tuple[bool, bool]:
        names = list(map(plain_name, _divided(cells)))
        if len(cells) == len(header) and all(names[index] == name for index, name in places):
            return True, True
        found = set(names)
        is_permuted = len(wanted) > 1 and wanted <= found
        return is_permuted or (len(found & _OURS) > 1 and bool(found & _IDS)), False

    return classify


def _divided(cells: Sequence[str]) -> Sequence[str]:
    """Return the cells of a line; of one that has other delimiters, its parts."""
    if len(cells) > 1 or not cells:
        return cells
    return max((cells[0].split(delimiter) for delimiter in DELIMITERS), key=len)


def _below(header: int) -> str:
    return (
        f"the line stands below another header, line {header}, with other columns or separators"
        " than the first; put that header and the lines below it into a file of their own, and"
        " submit that file"
    )
