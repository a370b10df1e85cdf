"""A body that comes in pieces becomes a stream that a thread reads: no more of it is held."""

import asyncio
import io
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from producer.errors import UnreadableFile

PIECES = 16
"""Pieces of the body that may wait for the reader."""

T = TypeVar("T")


class TruncatedUpload(UnreadableFile):
    """The body ended before its end."""


class _BodyPipe(io.RawIOBase):
    """What one side puts in, the other side reads."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | Exception] = queue.Queue(PIECES)
        self._left = b""
        self._ended = False
        self.abandoned = False

    def put(self, piece: bytes | Exception) -> None:
        """Wait for room; an empty piece is the end, an exception is raised where it is read."""
        waits = True
        while waits and not self.abandoned:
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=0.5)
                waits = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and not self._ended:
            piece = self._pieces.get()
            if isinstance(piece, Exception):
                raise piece
            self._left, self._ended = piece, not piece
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


async def read_in_thread(
    body: AsyncIterator[bytes], content_type: str, read: Callable[[io.BufferedReader], T]
) -> T:
    """Feed a request's body to a reader in a thread; returns what that returns.

    Of a multipart body the first file is read. A body that is cut off is an error for the
    reader and not an end. Raises UnreadableFile, and whatever the reader raises.
    """
    pieces = _BodyPipe()
    reading = asyncio.create_task(asyncio.to_thread(read, io.BufferedReader(pieces, 1 << 16)))
    reading.add_done_callback(lambda _: setattr(pieces, "abandoned", True))
    try:
        async for piece in _first_file(body, content_type):
            if reading.done():
                break
            if piece:
                await asyncio.to_thread(pieces.put, piece)
    except UnreadableFile as error:
        await asyncio.to_thread(pieces.put, error)
    except BaseException:
        await asyncio.to_thread(
            pieces.put, TruncatedUpload("The upload was cut off; send it again.")
        )
        await asyncio.gather(reading, return_exceptions=True)
        raise
    else:
        await asyncio.to_thread(pieces.put, b"")
    return await reading


async def _first_file(body: AsyncIterator[bytes], content_type: str) -> AsyncIterator[bytes]:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        async for piece in body:
            yield piece
        return
    if not options.get(b"boundary"):
        raise UnreadableFile("The multipart body names no boundary; use a client that does.")
    form = _MultipartFile(options[b"boundary"])
    async for piece in body:
        yield form.feed(piece)
    if not form.seen:
        raise UnreadableFile("The multipart body holds no file; add one, as `curl -F file=@FILE`.")


class _MultipartFile:
    """Finds the first file of a multipart body, a piece at a time."""

    def __init__(self, boundary: bytes) -> None:
        self.seen = False
        self._wanted = False
        self._header = self._value = b""
        self._found: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_part_data": self._on_data,
                "on_part_end": self._on_end,
            },
        )

    def feed(self, piece: bytes) -> bytes:
        """What a piece of the body holds of the file. Raises UnreadableFile."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise UnreadableFile(f"The multipart body cannot be read: {error}") from None
        found = b"".join(self._found)
        self._found.clear()
        return found

    def _on_field(self, raw: bytes, start: int, end: int) -> None:
        self._header += raw[start:end]

    def _on_value(self, raw: bytes, start: int, end: int) -> None:
        self._value += raw[start:end]

    def _on_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._wanted = b"filename" in parse_options_header(self._value)[1]
            if self._wanted and self.seen:
                raise UnreadableFile("The multipart body holds two files; a batch has one.")
        self._header = self._value = b""

    def _on_data(self, raw: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._found.append(raw[start:end])

    def _on_end(self) -> None:
        self.seen = self.seen or self._wanted
        self._wanted = False
