"""Read the file in the beginning of a zip archive, whose list of files stands at its end.

What stands before each file in the archive is all that is known of it then. It may lack the size
of the file, so the data are unpacked to see where they end.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from producer.errors import UnreadableFile
from producer.files.containers import (
    FREE_BYTES,
    MAX_ENTRIES,
    ZIP,
    Container,
    Content,
    is_table,
    only_file,
    shown_name,
)

_HEADER = struct.Struct("<4s5H3L2H")
"""What stands before the name of a file (APPNOTE.TXT of PKWARE, 4.3.7)."""
_SIZES_FOLLOW = 0x08
"""The flag of a file whose size stands after its data."""
_UTF8_NAME = 0x800
_LONGEST_FOLLOWING = 24
"""The most bytes after the data of such a file."""


class _Entry(NamedTuple):
    info: zipfile.ZipInfo
    start: int
    """Where its data begin in the archive."""


def unpack_cut_archive(name: str, beginning: bytes, most: int) -> Content:
    """Return the content, at most `most` bytes, of the only file in the beginning of an archive.

    A file that stands so far below it that the beginning does not reach it is not seen. Raises
    UnreadableFile if no file is seen, or if the archive cannot be read.
    """
    entries = list(_entries(beginning))
    if not any(is_table(entry.info) for entry in entries):
        raise UnreadableFile(
            f"{name} is a zip archive, and its beginning shows no file; send more of it, or unpack"
            " it."
        )
    info = only_file(name, [entry.info for entry in entries])
    start = next(entry.start for entry in entries if entry.info is info)
    name = f"{name} ({shown_name(info)})"
    try:
        content, _ = _unpack(info, beginning[start:], most)
    except zlib.error as error:
        raise UnreadableFile(f"{name} is damaged: {error}. Get the file again.") from None
    return Content(name, io.BytesIO(content), Container.ZIP, shown_name(info))


def _entries(beginning: bytes) -> Iterator[_Entry]:
    """Yield the files of the beginning of an archive, as far as it is known where each one ends."""
    position: int | None = 0
    count, budget = 0, FREE_BYTES
    while position is not None and count <= MAX_ENTRIES:
        entry = _entry_at(beginning, position)
        if entry is None:
            return
        yield entry
        count += 1
        position, unpacked = _end_of(entry, beginning, max(budget, 1))
        budget -= unpacked


def _entry_at(beginning: bytes, position: int) -> _Entry | None:
    """Return the file whose header stands here; None if there is none, or not the whole of it."""
    fields = beginning[position : position + _HEADER.size]
    if len(fields) < _HEADER.size:
        return None
    mark, _, flags, method, _, _, _, packed, size, name_size, more = _HEADER.unpack(fields)
    start = position + _HEADER.size + name_size
    if mark != ZIP or start + more > len(beginning):
        return None
    encoding = "utf-8" if flags & _UTF8_NAME else "cp437"
    name = beginning[start - name_size : start].decode(encoding, "replace")
    info = zipfile.ZipInfo(name)
    info.flag_bits, info.compress_type = flags, method
    info.compress_size, info.file_size = packed, size
    return _Entry(info, start + more)


def _end_of(entry: _Entry, beginning: bytes, budget: int) -> tuple[int | None, int]:
    """Return where the next header stands, if that is known, and how much was unpacked to see it.

    At most `budget` bytes are unpacked.
    """
    info, start = entry
    if not info.flag_bits & _SIZES_FOLLOW:
        return start + info.compress_size, 0
    if info.compress_type != zipfile.ZIP_DEFLATED:
        return None, 0
    try:
        content, end = _unpack(info, beginning[start:], budget)
    except zlib.error:
        return None, budget
    if end is None:
        return None, len(content)
    end += start
    following = beginning.find(ZIP, end, end + _LONGEST_FOLLOWING + len(ZIP))
    return None if following < 0 else following, len(content)


def _unpack(info: zipfile.ZipInfo, data: bytes, most: int) -> tuple[bytes, int | None]:
    """Return up to `most` bytes of a file, and where its data end, if that is seen."""
    if info.compress_type == zipfile.ZIP_STORED:
        known = not info.flag_bits & _SIZES_FOLLOW
        return data[: min(most, info.compress_size) if known else most], None
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(data, most)
    return content, len(data) - len(unpacker.unused_data) if unpacker.eof else None
