"""Describe the layout of a file: the kind of its records and how to read them."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from producer.publishing.chunking import Line
from producer.schemas import Kind

BOM = b"\xef\xbb\xbf"

Lines = Iterator[Line]


class FileLayout(NamedTuple):
    """What the first lines of a file show: the kind of its records, a reader, and the header."""

    kind: Kind
    read: Callable[[BinaryIO], Lines]
    columns: tuple[str, ...] | None
    """The header; None for JSON Lines."""
    notices: list[str]
    """Sentences about how the file is understood, for its submitter; reading it may add some."""
