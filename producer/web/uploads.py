"""Turn the pieces of an HTTP body into a stream for a thread, with a few pieces in memory."""

import asyncio
import io
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from producer.contract.chunks import COURSE_FIELDS
from producer.errors import UnreadableFile
from producer.files.layout import Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import Action
from producer.web.access import lacking
from producer.web.tokens import Scope

PIECES = 16
"""How many pieces of the body may wait for the reader."""

T = TypeVar("T")


class TruncatedUpload(UnreadableFile):
    """The body was cut off before its end."""


class _BodyPipe(io.RawIOBase):
    """A stream of the pieces that another thread puts in."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | Exception] = queue.Queue(PIECES)
        self._unread = b""
        self._ended = False
        self.abandoned = False
        self.file_name: str | None = None

    def put(self, piece: bytes | Exception) -> None:
        """Add a piece, after waiting for room.

        An empty piece ends the stream. An exception is raised in the reader.
        """
        waiting = True
        while waiting and not self.abandoned:
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=0.5)
                waiting = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._unread and not self._ended:
            piece = self._pieces.get()
            if isinstance(piece, Exception):
                raise piece
            self._unread, self._ended = piece, not piece
        size = min(len(buffer), len(self._unread))
        buffer[:size], self._unread = self._unread[:size], self._unread[size:]
        return size


class Upload(NamedTuple):
    """A file that arrives over HTTP."""

    body: io.BufferedReader
    name: Callable[[], str | None]
    """Returns the name of the file, once a part of it was read; None if it has none."""


def refuse_drops(lines: Lines) -> Lines:
    """Yield the lines of a file whose caller may not drop. Raises Refused at the first drop."""
    for entry in lines:
        if isinstance(entry, SourceRecord) and _is_drop(entry.record):
            purpose = f" for the drop in line {entry.lines[0]}, and the file was not read further"
            raise lacking(Scope.DROP, purpose)
        yield entry


def _is_drop(record: Any) -> bool:
    return isinstance(record, dict) and bool(record.get(COURSE_FIELDS[Action.DROP]))


async def read_in_thread(
    body: AsyncIterator[bytes], content_type: str, read: Callable[[Upload], T]
) -> T:
    """Feed the body of an HTTP call to `read` in a thread, and return its result.

    In a multipart body, the file is read. If the body is cut off, `read` gets an exception, not
    the end of the stream. Raises UnreadableFile, and whatever `read` raises.
    """
    pieces = _BodyPipe()
    upload = Upload(io.BufferedReader(pieces, 1 << 16), lambda: pieces.file_name)
    reading = asyncio.create_task(asyncio.to_thread(read, upload))
    reading.add_done_callback(lambda _: setattr(pieces, "abandoned", True))
    try:
        async for piece in _first_file(body, content_type, pieces):
            if reading.done():
                break
            if piece:
                await asyncio.to_thread(pieces.put, piece)
    except UnreadableFile as error:
        await asyncio.to_thread(pieces.put, error)
    except BaseException:
        await asyncio.to_thread(
            pieces.put, TruncatedUpload("The upload was cut off; send the file again.")
        )
        await asyncio.gather(reading, return_exceptions=True)
        raise
    else:
        await asyncio.to_thread(pieces.put, b"")
    return await reading


async def _first_file(
    body: AsyncIterator[bytes], content_type: str, pieces: _BodyPipe
) -> AsyncIterator[bytes]:
    """Yield the file in a body, and store its name in `pieces` before its content."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        async for piece in body:
            yield piece
        return
    if not options.get(b"boundary"):
        raise UnreadableFile(
            "The Content-Type of the multipart body lacks its boundary; leave this header to your"
            " HTTP client."
        )
    form = _MultipartFile(options[b"boundary"])
    async for piece in body:
        content = form.feed(piece)
        pieces.file_name = form.file_name
        yield content
    if not form.seen:
        raise UnreadableFile(
            "The multipart body contains no file; add one, for example with `curl -F file=@FILE`."
        )


class _MultipartFile:
    """Extracts the file from a multipart body, piece by piece."""

    def __init__(self, boundary: bytes) -> None:
        self.seen = False
        self.file_name: str | None = None
        self._wanted = False
        self._header = self._value = b""
        self._data: list[bytes] = []
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
        """Return the part of the file that a piece of the body holds. Raises UnreadableFile."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise UnreadableFile(
                f"The multipart body is malformed ({error}); send the file as the body itself, or"
                " with `curl -F file=@FILE`."
            ) from None
        data = b"".join(self._data)
        self._data.clear()
        return data

    def _on_field(self, raw: bytes, start: int, end: int) -> None:
        self._header += raw[start:end]

    def _on_value(self, raw: bytes, start: int, end: int) -> None:
        self._value += raw[start:end]

    def _on_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            file_name = parse_options_header(self._value)[1].get(b"filename")
            self._wanted = file_name is not None
            if self._wanted and self.seen:
                raise UnreadableFile("The multipart body contains two files; send one at a time.")
            if file_name is not None:
                self.file_name = file_name.decode(errors="replace")
        self._header = self._value = b""

    def _on_data(self, raw: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._data.append(raw[start:end])

    def _on_end(self) -> None:
        self.seen = self.seen or self._wanted
        self._wanted = False
