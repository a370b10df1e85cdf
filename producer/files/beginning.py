"""The first lines of a file that goes on, for readers that must not take their end for its end."""

import io
from typing import BinaryIO


class FileGoesOn(Exception):
    """The first lines of a file have been read, and the file goes on after them."""


class Beginning(io.BytesIO):
    """The whole lines of the beginning of a file in UTF-8.

    To read on after them raises FileGoesOn, so that nothing that the rest of the file decides is
    taken for read: a cell in quotes that is still open, for example. A reader that takes a block
    and completes its last line, as `RowReader` does, gets the last block first.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content[: content.rfind(b"\n") + 1])
        self._is_block_complete = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes. Raises FileGoesOn if there are none."""
        block = super().read(size)
        if not block:
            raise FileGoesOn
        self._is_block_complete = self._is_at_end()
        return block

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line, or nothing just after a block that ends with one. Raises FileGoesOn."""
        line = super().readline(size)
        if not line and not self._is_block_complete:
            raise FileGoesOn
        self._is_block_complete = False
        return line

    def _is_at_end(self) -> bool:
        return self.tell() == self.getbuffer().nbytes


def open_lines(lines: bytes, *, goes_on: bool) -> BinaryIO:
    """Return lines in UTF-8 as a file; as a `Beginning` if they are only the first ones."""
    return Beginning(lines) if goes_on else io.BytesIO(lines)
