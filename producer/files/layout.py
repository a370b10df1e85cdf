"""Describe the layout of a file: the kind of its records and how to read them."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from producer.publishing.chunking import Line
from producer.schemas import Kind

BOM = b"\xef\xbb\xbf"

NOT_UTF8 = "is not UTF-8; save the file as UTF-8, or choose the encoding that it has"
"""What is wrong with a line that cannot be decoded, and what to do."""

Lines = Iterator[Line]


class FileLayout(NamedTuple):
    """What the first lines of a file show: the kind of its records, a reader, and the header.

    `notices` are sentences about what the submitter should know, but need not correct.
    """

    kind: Kind
    read: Callable[[BinaryIO], Lines]
    columns: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()
