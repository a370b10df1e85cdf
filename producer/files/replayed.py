"""Read a stream again from its beginning, of which the first bytes were already taken."""

import io
from typing import Any, BinaryIO


class Replayed(io.RawIOBase):
    """A stream whose beginning was already read, and which yields that beginning again first."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        self._beginning = memoryview(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._beginning[: len(buffer)] or self._rest.read(len(buffer))
        self._beginning = self._beginning[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)
