"""Read an uploaded file to its end, as a submission does, and report every mistake of its form."""

import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final, NamedTuple, Self

from pydantic import Field

from producer.errors import UnreadableFile
from producer.files.check import FormRefusal, LineCounts, SourceChecker
from producer.files.describing import Choices
from producer.files.file_preview import PreviewRow
from producer.files.formats.packages import Package
from producer.files.layout import FileLayout, Lines
from producer.files.mistakes import MistakeGroup, Mistakes
from producer.files.reader import open_stream
from producer.files.refused_lines import cells_of
from producer.schemas import ContractModel, Kind

MAX_LISTED: Final = 1_000
"""The most lines with mistakes that are listed; all of them are counted."""
FIRST_ROWS: Final = 5
"""How many rows are shown as they are understood."""
MAX_LISTED_TEXT: Final = 4_000_000
"""The most characters of the cells of these lines: a single line may have a million."""


class MistakenLine(ContractModel):
    """A line that would be refused because it is invalid."""

    line: int = Field(description="The line of the file, counted from 1.")
    field: str | None = Field(
        description="The column or field of its first mistake; null if it is the line as a whole."
    )
    message: str = Field(description="What is wrong with the line and what to do.")
    cells: tuple[str, ...] | None = Field(
        description="Its cells, in the order of `columns`; null if they are not known. Bytes that"
        " are not text are noncharacters, as in the refusals of a batch."
    )


class _Checked(ContractModel):
    """What was found in a file that was read to its end."""

    kind: Kind | None = Field(default=None, description="The kind of the records.")
    content: str | None = Field(
        default=None, description="What the file holds, in a few words, for example `drops`."
    )
    columns: tuple[str, ...] | None = Field(default=None, description="The header of a CSV file.")
    lines: LineCounts | None = Field(default=None, description="Where its lines went.")
    rows: int | None = Field(
        default=None, description="Pairs or roster records that would be submitted."
    )
    groups: tuple[MistakeGroup, ...] = Field(
        default=(),
        description="The mistakes, that of the most lines first. Each line is in one group: that of"
        " its first mistake.",
    )
    refused: tuple[MistakenLine, ...] = Field(
        default=(), description=f"The first lines with mistakes, at most {MAX_LISTED}."
    )
    notices: tuple[str, ...] = Field(
        default=(), description="How the file is understood, where that may not be what is meant."
    )
    system: str | None = Field(
        default=None, description="The system that the file comes from; null for our own columns."
    )
    passed_over: Mapping[str, int] = Field(
        default={}, description="Lines about others than students, counted by their roles."
    )
    first_rows: tuple[PreviewRow, ...] = Field(
        default=(), description="The first rows, as they are understood."
    )


class CheckedFile(_Checked):
    """A file of a package that was read to its end."""

    file: str = Field(description="The name of the file.")
    batch: str = Field(
        description="The end of its batch id, which begins with the batch id of the package."
    )


class WholeCheck(_Checked):
    """How a whole file would be understood, and every mistake of its form.

    Of a package, `files` says this for each file, and `lines` and `rows` are the sums.
    """

    readable: bool = Field(description="Whether the file as a whole can be read.")
    problem: str | None = Field(
        default=None, description="Why the file cannot be read, and what to do."
    )
    field: str | None = Field(
        default=None, description="The parameter that may help, for example `map`."
    )
    files: tuple[CheckedFile, ...] = Field(
        default=(), description="The files of a package, in the order in which they are submitted."
    )

    @classmethod
    def unreadable(cls, error: UnreadableFile) -> Self:
        """Return the result for a file that cannot be read."""
        field = next(iter(error.parameters), None)
        return cls(readable=False, problem=str(error), field=field)


class CheckStopped(Exception):
    """A check was stopped, because its result is no longer wanted."""


class _Watched(io.RawIOBase):
    """A file that can be read until its content is no longer wanted.

    A look at every line is not enough, because many in a row may yield nothing, such as blank ones.
    """

    def __init__(self, file: BinaryIO, is_wanted: Callable[[], bool]) -> None:
        self._file = file
        self._is_wanted = is_wanted

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        if not self._is_wanted():
            raise CheckStopped
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Stream(NamedTuple):
    """A file whose first lines have been read, and the rest of it."""

    name: str
    layout: FileLayout
    lines: Lines
    is_wanted: Callable[[], bool]

    def records(self) -> Lines:
        """Yield every record. Raises UnreadableFile, and CheckStopped."""
        for line in self.lines:
            if not self.is_wanted():
                raise CheckStopped
            yield line


class _Listing:
    """The first lines with mistakes, within the bounds of a response."""

    def __init__(self, columns: tuple[str, ...] | None, together: int) -> None:
        self._columns = columns
        self._most = MAX_LISTED // together
        self._room = MAX_LISTED_TEXT // together
        self.lines: list[MistakenLine] = []

    def add(self, refusal: FormRefusal) -> None:
        """Add a line, unless there is no room left."""
        if len(self.lines) >= self._most or self._room <= 0:
            return
        record = refusal.record
        cells = cells_of(self._columns, record)
        self._room -= sum(map(len, cells or ()))
        message, field = record.message, refusal.field
        line = MistakenLine(line=record.line, field=field, message=message, cells=cells)
        self.lines.append(line)


def check_whole_file(
    name: str, file: BinaryIO, choices: Choices, is_wanted: Callable[[], bool] = lambda: True
) -> WholeCheck:
    """Read a file to its end, and return how it would be understood by a submission.

    `name` stands for the file in messages. A file that cannot be read is a result, too. Raises
    CheckStopped once `is_wanted` returns false.
    """
    try:
        watched = io.BufferedReader(_Watched(file, is_wanted), 1 << 16)
        layout, lines = open_stream(name, watched, choices)
        found = _found_in(_Stream(name, layout, lines, is_wanted))
    except UnreadableFile as error:
        return WholeCheck.unreadable(error)
    return WholeCheck(readable=True, **found)


def check_package(package: Package, is_wanted: Callable[[], bool] = lambda: True) -> WholeCheck:
    """Read every file of a package to its end; return how each would be understood.

    A package with a file that cannot be read is a result, too. Raises CheckStopped once `is_wanted`
    returns false.
    """
    files: list[CheckedFile] = []
    try:
        for source in package.sources:
            stream = _Stream(source.name, source.layout, source.records(), is_wanted)
            found = _found_in(stream, len(package.sources))
            files.append(CheckedFile(file=source.file_name, batch=source.batch_name, **found))
    except UnreadableFile as error:
        return WholeCheck.unreadable(error)
    lines = LineCounts.together(file.lines for file in files if file.lines is not None)
    return WholeCheck(
        readable=True,
        content=f"package of {package.title}",
        system=package.system,
        lines=lines,
        rows=sum(file.rows or 0 for file in files),
        files=tuple(files),
        notices=tuple(package.notices),
    )


def _found_in(stream: _Stream, together: int = 1) -> dict[str, Any]:
    """Return what is found in a file that is read to its end. Raises UnreadableFile.

    The bounds of a response are shared by this number of files `together`.
    """
    layout = stream.layout
    checker = SourceChecker(stream, first_rows=FIRST_ROWS)
    mistakes, listing = Mistakes(), _Listing(layout.columns, together)
    for refusal in checker.form_refusals():
        mistakes.add(refusal.record.line, refusal.field, refusal.mistake)
        listing.add(refusal)
    result = checker.result()
    return {
        "kind": result.kind,
        "content": result.content,
        "columns": result.columns,
        "lines": result.lines,
        "rows": result.rows,
        "groups": tuple(mistakes),
        "refused": tuple(listing.lines),
        "notices": tuple(layout.notices),
        "system": layout.system,
        "passed_over": dict(layout.passed_over),
        "first_rows": tuple(PreviewRow(line=row.line, fields=row.fields) for row in checker.rows()),
    }
