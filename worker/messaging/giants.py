"""Bound what is held and stored of a giant message: its beginning, its size and its SHA-256."""

import hashlib
from collections.abc import Iterable
from typing import Final, Self

from producer.fields import MAX_MESSAGE

MAX_WHOLE: Final = 4 * MAX_MESSAGE
"""The most bytes of a message that is received whole. One that is larger than MAX_MESSAGE is
refused, but its ids are read, so that its client learns why."""

BEGINNING: Final = 65_536
"""The number of bytes at the beginning of a larger message that are stored."""


class Beginning(bytes):
    """The first bytes of a giant, with the size and the SHA-256 (in hex) of the whole."""

    size: int
    sha256: str

    @classmethod
    def of(cls, pieces: Iterable[bytes]) -> Self:
        """Make it from all pieces of the giant, in order."""
        digest, size, kept = hashlib.sha256(), 0, b""
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            kept += piece[: BEGINNING - len(kept)]
        beginning = cls(kept)
        beginning.size, beginning.sha256 = size, digest.hexdigest()
        return beginning


def shortened(message: bytes) -> bytes:
    """Return a message that was received whole, or its beginning if it is a giant."""
    return message if len(message) <= MAX_WHOLE else Beginning.of([message])
