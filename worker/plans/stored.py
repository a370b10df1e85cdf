"""Define what is stored of a chunk of a planned submission, instead of applying it."""

import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from producer.contract.chunks import Chunk
from producer.schemas import Kind
from worker.batches.apply import read_chunk
from worker.snapshots.unchanged import Unchanged, is_readable, unpack

LEVEL: Final = 1
"""How hard chunks are compressed: the fastest way leaves a tenth of their size."""


class ReadChunk(NamedTuple):
    """A chunk that was read from what is stored of it."""

    chunk: Chunk
    fingerprint: int
    unchanged: Unchanged
    """The requests that changed nothing when it was stored."""
    losses: int
    """How much its data set had lost then."""


class TextNeeded(Exception):
    """Something asks for the text of a chunk within a transaction, before the text was loaded."""


class Stored(NamedTuple):
    """What is stored of a chunk."""

    load: Callable[[], bytes]
    """Returns its text, compressed."""
    fingerprint: int
    unchanged: bytes | None = None
    """Requests that changed nothing when the chunk was stored (`worker.snapshots.unchanged`)."""
    losses: int | None = None
    """How much its data set had lost then."""

    @property
    def text(self) -> str:
        """Return the text of the chunk."""
        return zlib.decompress(self.load()).decode(errors="surrogatepass")

    def read_unchanged(self) -> ReadChunk | None:
        """Read the chunk by its unchanged requests; None if none were noted."""
        if self.unchanged is None or self.losses is None or not is_readable(self.unchanged):
            return None

        def parse() -> Chunk:
            return read_chunk(Kind.ENROLLMENTS, self.text)[0]

        chunk, unchanged = unpack(self.unchanged, parse)
        return ReadChunk(chunk, self.fingerprint, unchanged, self.losses)

    def read_for_transaction(self) -> ReadChunk | None:
        """Read the chunk as `read_unchanged` does, for a transaction.

        Its text is loaded now if some of its requests may change something. If not, what asks for
        it raises TextNeeded: a transaction must not wait for a second connection.
        """
        loaded: list[bytes] = []

        def load() -> bytes:
            if not loaded:
                raise TextNeeded
            return loaded[0]

        read = self._replace(load=load).read_unchanged()
        if read is not None and read.unchanged.rest:
            loaded.append(self.load())
        return read


def compressed(text: str) -> bytes:
    """Return the text of a chunk as it is stored."""
    return zlib.compress(text.encode(errors="surrogatepass"), LEVEL)
