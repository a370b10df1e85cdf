"""Take blocks of lines apart into columns, which is faster than row by row."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from producer.fields import MAX_CHUNK_BYTES, MAX_TEXT
from producer.files.cells import Row
from producer.publishing.chunking import CELL_END


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows that follow each other, each on one line and with a cell for each column.

    `texts` are the rows as texts, with CELL_END between their cells.
    """

    first: int
    """The line of the first row."""
    texts: Sequence[str]
    _cells: list[str]
    _stride: int

    def column(self, at: int) -> list[str]:
        """Return the cells of the column at this position."""
        return self._cells[at :: self._stride]

    def different_cells(self, at: int) -> set[str]:
        """Return the different cells of a column; it is quick if all are the same."""
        column = self.column(at)
        return {column[0]} if column.count(column[0]) == len(column) else set(column)

    @property
    def last(self) -> int:
        """Return the line of the last row."""
        return self.first + len(self.texts) - 1

    def row(self, at: int) -> list[str]:
        """Return the cells of the row at this position."""
        return self.texts[at].split(CELL_END)

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one."""
        for line, text in enumerate(self.texts, self.first):
            yield line, text.split(CELL_END)


def plain_text(block: bytes) -> str | None:
    """Return whole lines as text, with line feeds; None if one needs a closer look."""
    if (
        not block.endswith(b"\n")
        or len(block) > MAX_CHUNK_BYTES
        or b'"' in block
        or b"\x00" in block
        or b"\x1a" in block
        # One character is found much faster than two.
        or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n"))
    ):
        return None
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    return text.replace("\r\n", "\n") if b"\r" in block else text


def row_block(text: str, first: int, delimiter: str, width: int, ids_at: int) -> RowBlock | None:
    """Return the rows of lines in which nothing but the delimiter has a meaning, as a block.

    Returns None if a line has not `width` cells, or a cell of the column at `ids_at` is not an id
    that is valid as it is written. So no row of a block is blank.
    """
    text = text.replace(delimiter, CELL_END)
    texts = text.split("\n")
    del texts[-1]  # Nothing follows the last line end.
    stride = width + 1
    # With a cell for each line end, rows of another width are seen in all of them together.
    cells = text.replace("\n", f"{CELL_END}\n{CELL_END}").split(CELL_END)
    del cells[-1]
    is_even = len(cells) == len(texts) * stride and cells[width::stride].count("\n") == len(texts)
    if not is_even or not are_clean(cells[ids_at::stride]):
        return None
    return RowBlock(first, texts, cells, stride)


def are_clean(ids: Collection[str]) -> bool:
    """Return whether all of some ids are valid as they are written, without any spaces."""
    joined = "".join(ids)
    is_short = max(map(len, ids), default=0) <= MAX_TEXT
    return is_short and all(ids) and joined.isprintable() and " " not in joined
