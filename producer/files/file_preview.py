"""Define the preview of a file: how it would be understood if it were submitted."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from producer.contract.chunks import RefusedLine
from producer.files.check import LineCounts
from producer.files.containers import Container
from producer.schemas import ContractModel, Kind


class ColumnSource(ContractModel):
    """What one of our columns is made from: a column of the file, or a template."""

    column: str = Field(description="Our column.")
    header: str | None = Field(description="The column of the file; null if it is a template.")
    template: str | None = Field(description="The template over the columns of the file.")


class PreviewRow(ContractModel):
    """A line as it is understood."""

    line: int = Field(description="The line of the file, counted from 1.")
    fields: Mapping[str, Any] = Field(
        description="What it says: for enrollments, the student, the course, and `action` if it is"
        " a drop; for a roster and for other requests, the record."
    )


class FilePreview(ContractModel):
    """How a file would be understood if it were submitted; fields that are not known are null."""

    readable: bool = Field(description="Whether the file as a whole can be read.")
    problem: str | None = Field(
        default=None, description="Why the file cannot be read, and what to do."
    )
    field: str | None = Field(
        default=None, description="The parameter that may help, for example `map`."
    )
    options: tuple[str, ...] = Field(
        default=(), description="All parameters that may help; `field` is the first."
    )
    truncated: bool = Field(
        description="Whether the file goes on after what was read. What depends on the rest, such"
        " as a last line that is not whole, is left out."
    )
    container: Container | None = Field(default=None, description="How the file is packed.")
    inner: str | None = Field(default=None, description="The name of the file in a zip archive.")
    sheets: tuple[str, ...] = Field(
        default=(), description="The names of the sheets of a workbook; `inner` is the one read."
    )
    format: str | None = Field(default=None, description="`csv` or `jsonl`.")
    encoding: str | None = Field(default=None, description="Python's name of its encoding.")
    bom: bool | None = Field(default=None, description="Whether it has a byte order mark.")
    delimiter: str | None = Field(default=None, description="What separates the cells of a CSV.")
    columns: tuple[str, ...] | None = Field(default=None, description="The header of a CSV file.")
    header_line: int | None = Field(
        default=None, description="The line in which the header begins, counted from 1."
    )
    mapping: tuple[ColumnSource, ...] | None = Field(
        default=None, description="What each of our columns in a CSV file is made from."
    )
    ignored: tuple[str, ...] | None = Field(
        default=None, description="Columns that none of ours is made from."
    )
    kind: Kind | None = Field(default=None, description="The kind of the records.")
    other_kinds: tuple[Kind, ...] = Field(
        default=(), description="The other kinds that `kind` can choose for this file."
    )
    content: str | None = Field(
        default=None, description="What the file holds, in a few words, for example `drops`."
    )
    system: str | None = Field(
        default=None,
        description="The system that the file comes from, whose columns are known; null for our own"
        " columns.",
    )
    passed_over: Mapping[str, int] = Field(
        default={},
        description="Lines about others than students among those that were read, counted by their"
        " roles.",
    )
    ordered: bool | None = Field(
        default=None, description="Whether each line counts later than the one before it."
    )
    rows: tuple[PreviewRow, ...] = Field(default=(), description="The first rows.")
    refused: tuple[RefusedLine, ...] = Field(
        default=(), description="The first lines that would be refused because they are invalid."
    )
    lines: LineCounts | None = Field(
        default=None, description="Where the lines went that were read."
    )
    row_count: int | None = Field(
        default=None, description="Pairs or roster records in what was read."
    )
    notices: tuple[str, ...] = Field(
        default=(), description="What the submitter should know about the file."
    )
    raw_lines: tuple[str, ...] = Field(
        default=(), description="The first lines as they are written, each cut off if it is long."
    )
    raw_rows: tuple[tuple[str, ...], ...] = Field(
        default=(),
        description="The cells of the first rows of a CSV file, as they are written, each cut off"
        " if it is long.",
    )
