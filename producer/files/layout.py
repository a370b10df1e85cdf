"""Describe the layout of a file: the kind of its records and how to read them."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from producer.contract.file_form import FileForm
from producer.files.account import Account
from producer.files.notices import Notices
from producer.publishing.chunking import Line
from producer.schemas import Kind

NOT_UTF8 = "is not UTF-8; save the file as UTF-8, or choose the encoding that it has"
"""What is wrong with a line that cannot be decoded, and what to do."""

NOT_ALL_DROPS = "submit it without the option that makes every line a drop"
"""What to do with a file whose lines cannot all be drops."""

Lines = Iterator[Line]


class Named(NamedTuple):
    """A course that a line describes, and the student whom it names there, if any."""

    course: str
    student: str | None = None


class FileLayout(NamedTuple):
    """What the first lines of a file show: the kind of its records, a reader, and the header.

    `notices` may grow while the records are read. `account` says where each line that was read
    went. `form` is how a CSV file is written; `mapping` names the column or the template
    that each of our columns is made from. `ordered` is set if each line says what it asks for, and
    counts later than the one before it; `drop` is set if every line is a drop. `header_line` is
    the line in which the header of a CSV file begins. `source` says what a file of another
    system holds, and `system` names that system. `passed_over` counts the lines about others than
    students that were read, by their roles; it grows while the records are read.
    `used` are the columns that a file of another system is read from. `named` reads which courses
    and students its lines name; `is_complete` is set if they are all current enrollments.
    """

    kind: Kind
    read: Callable[[BinaryIO], Lines]
    notices: Notices
    account: Account
    columns: tuple[str, ...] | None = None
    form: FileForm | None = None
    mapping: Mapping[str, str] | None = None
    ordered: bool = False
    drop: bool = False
    header_line: int | None = None
    source: str | None = None
    system: str | None = None
    passed_over: Mapping[str, int] = MappingProxyType({})
    used: tuple[str, ...] = ()
    named: Callable[[BinaryIO], Iterator[Named]] | None = None
    is_complete: bool = False

    @property
    def content(self) -> str:
        """Return what the file holds, in a few words."""
        if self.source is not None:
            return self.source
        if self.drop:
            return "drops"
        return "enrollments and drops" if self.ordered else self.kind.value
