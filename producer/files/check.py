"""Read a file as a submission does, and report which lines are invalid."""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from pydantic import Field

from producer.contract.batches import RefusedRecord
from producer.contract.chunks import (
    COURSE_FIELDS,
    KIND_CHUNKS,
    KIND_MODELS,
    Chunk,
    FileForm,
    RefusedLine,
)
from producer.contract.explain import parse_record
from producer.files.layout import Lines
from producer.files.reader import FileSource, StreamSource
from producer.publishing.chunking import Line, SourceRecord, split_into_chunks
from producer.schemas import Action, Code, ContractModel, Kind

FIRST_ROWS = 3
SHOWN_LINES = 20
"""How many of the lines that would be refused are shown."""


class LineCounts(ContractModel):
    """Where the lines of a file went: `total` is the sum of the others."""

    total: int = Field(description="All lines of the file.")
    header: int = Field(description="The lines of the header.")
    read: int = Field(description="Lines that would be submitted.")
    continued: int = Field(description="Further lines of rows that have more than one.")
    blank: int = Field(description="Lines without text.")
    refused: int = Field(description="Lines that would be refused because they are invalid.")


class FileCheck(ContractModel):
    """How a file is understood, and which lines are invalid."""

    file: str
    kind: Kind
    form: FileForm | None = Field(description="How a CSV file is written; null for JSON Lines.")
    columns: tuple[str, ...] | None = Field(description="The header of a CSV file.")
    mapping: Mapping[str, str] | None = Field(
        description="The column or template that each of our columns is made from."
    )
    first_rows: tuple[Mapping[str, Any], ...] = Field(description="What the first rows say.")
    lines: LineCounts
    rows: int = Field(description="Pairs or roster records that would be submitted.")
    refused: tuple[RefusedLine, ...] = Field(description="The first lines that would be refused.")
    content: str = Field(description="What the file holds, in a few words.")
    ordered: bool = Field(description="Whether each line counts later than the one before it.")


class SourceChecker:
    """Reads a source to its end: `refusals` first, then `result`."""

    def __init__(self, source: FileSource | StreamSource) -> None:
        self._source = source
        self._first: list[SourceRecord] = []
        self._shown: list[RefusedLine] = []
        self._refused = self._rows = 0

    def refusals(self) -> Iterator[RefusedRecord]:
        """Yield each line that would be refused because it is invalid. Raises UnreadableFile.

        The lines pass through the chunks of a submission and through the contract by which a worker
        checks them.
        """
        source = self._source
        entries = self._observed(source.records())
        options = (source.columns, source.kind, source.form)
        for part in split_into_chunks("check", entries, *options, ordered=source.ordered):
            chunk = KIND_CHUNKS[source.kind].model_validate_json(part.text)
            self._rows += part.tally.rows - len(chunk.refused)
            refusals = [_unread(line) for line in chunk.refused]
            refusals += self._records_refused(chunk)
            for refusal in sorted(refusals, key=lambda refusal: refusal.line):
                self._refused += 1
                if len(self._shown) < SHOWN_LINES:
                    self._shown.append(RefusedLine(line=refusal.line, message=refusal.message))
                yield refusal

    def _observed(self, entries: Lines) -> Iterator[Line]:
        """Yield the entries; remember the first records, in which the first rows are."""
        for entry in entries:
            if len(self._first) < FIRST_ROWS and isinstance(entry, SourceRecord):
                self._first.append(entry)
            yield entry

    def _records_refused(self, chunk: Chunk) -> Iterator[RefusedRecord]:
        """Yield the records of a chunk that break the contract, for example by a bad time."""
        model = KIND_MODELS[self._source.kind]
        cells = dict(zip(chunk.lines or (), chunk.cells or (), strict=False))
        lines = iter(chunk.lines or ())
        by_row = len(chunk.lines or ()) != len(chunk.row_counts)
        for record, rows in zip(chunk.records_in_order, chunk.row_counts, strict=True):
            line, *_ = islice(lines, rows if by_row else 1)
            if isinstance(record, model):
                continue
            _, problems = parse_record(model, record)
            if problems:
                self._rows -= rows
                message = "; ".join(problem.message for problem in problems)
                yield RefusedRecord(
                    id=1,
                    line=line,
                    code=Code.INVALID_REQUEST,
                    message=message,
                    record=record,
                    cells=cells.get(line),
                )

    def result(self) -> FileCheck:
        """Return what was found in the whole file, after `refusals` has yielded all it has."""
        source, account = self._source, self._source.layout.account
        counts = LineCounts(
            total=account.total,
            header=account.header,
            read=account.total - account.header - account.continued - account.blank - self._refused,
            continued=account.continued,
            blank=account.blank,
            refused=self._refused,
        )
        first = sorted(chain(*map(_rows_of, self._first)), key=lambda row: int(row["line"]))
        return FileCheck(
            file=source.name,
            kind=source.kind,
            form=source.form,
            columns=source.columns,
            mapping=source.layout.mapping,
            first_rows=tuple(first[:FIRST_ROWS]),
            lines=counts,
            rows=self._rows,
            refused=tuple(self._shown),
            content=source.layout.content,
            ordered=source.ordered,
        )


def _unread(line: RefusedLine) -> RefusedRecord:
    return RefusedRecord(
        id=1, line=line.line, code=Code.INVALID_REQUEST, message=line.message, cells=line.cells
    )


def _rows_of(entry: SourceRecord) -> Iterator[dict[str, Any]]:
    """Yield what the lines of a record say, as they will be submitted."""
    record = entry.record
    if isinstance(record, dict) and (pairs := _pairs_of(record, len(entry.lines))):
        details = {name: record[name] for name in ("reason", "as_of") if name in record}
        for line, pair in zip(entry.lines, pairs, strict=True):
            yield {"line": line, "student_id": record.get("student_id"), **pair, **details}
    else:
        yield {"line": entry.lines[0], **(record if isinstance(record, dict) else {"": record})}


def _pairs_of(record: Mapping[str, Any], count: int) -> list[dict[str, Any]] | None:
    """Return the course and the action of each line of a request; None if it has other lines."""
    lists = [(action, record[field]) for action, field in COURSE_FIELDS.items() if field in record]
    if len(lists) != 1 or not isinstance(lists[0][1], list) or len(lists[0][1]) != count:
        return None
    ((action, courses),) = lists
    named = {"action": action.value} if action is Action.DROP else {}
    return [{"course_id": course, **named} for course in courses]
