"""Describe the layout of a file: what its records are, and how to read them."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from producer.publishing.chunking import Line
from producer.schemas import Kind

BOM = b"\xef\xbb\xbf"

Lines = Iterator[Line]


class FileLayout(NamedTuple):
    """What the head of a file tells: what its records are, how to read them, its header."""

    kind: Kind
    read: Callable[[BinaryIO], Lines]
    columns: tuple[str, ...] | None = None
