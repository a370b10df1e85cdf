"""Describe the layout of a file: the kind of its records and how to read them."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from producer.contract.chunks import FileForm
from producer.files.notices import Notices
from producer.publishing.chunking import Line
from producer.schemas import Kind

BOM = b"\xef\xbb\xbf"

Lines = Iterator[Line]


class FileLayout(NamedTuple):
    """What the first lines of a file show: the kind of its records, a reader, and the header.

    `notices` may grow while the records are read. `form` is how a CSV file is written.
    """

    kind: Kind
    read: Callable[[BinaryIO], Lines]
    notices: Notices
    columns: tuple[str, ...] | None = None
    form: FileForm | None = None
