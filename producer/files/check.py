"""Read a file as a submission does, and report which lines are invalid."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, Self

from pydantic import Field

from producer.contract.batches import RefusedRecord
from producer.contract.chunks import COURSE_FIELDS, KIND_CHUNKS, KIND_MODELS, Chunk, RefusedLine
from producer.contract.explain import parse_record
from producer.contract.file_form import FileForm
from producer.contract.printable import printable
from producer.fields import MAX_TEXT
from producer.files.layout import FileLayout, Lines
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
    skipped: int = Field(
        description="Lines that are passed over on purpose, such as those about teachers."
    )
    refused: int = Field(description="Lines that would be refused because they are invalid.")

    @classmethod
    def together(cls, files: Iterable[Self]) -> Self:
        """Return the counts of several files together."""
        counts = [file.model_dump() for file in files]
        return cls(**{name: sum(count[name] for count in counts) for name in cls.model_fields})


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


class Source(Protocol):
    """A file that can be read, whose first lines have been checked."""

    @property
    def name(self) -> str:
        """Return its name in messages."""

    @property
    def layout(self) -> FileLayout:
        """Return what its first lines show."""

    def records(self) -> Lines:
        """Yield every record. Raises UnreadableFile."""


class RowText(NamedTuple):
    """What a line says, by our names; a value that is not an object has no name."""

    line: int
    fields: Mapping[str, Any]

    def as_mapping(self) -> dict[str, Any]:
        """Return the fields with the line, which comes before a field of that name."""
        return {"line": self.line} | {**self.fields, "line": self.line}


class FormRefusal(NamedTuple):
    """A line that would be refused because it is invalid, and its first mistake."""

    record: RefusedRecord
    field: str | None
    mistake: str


class SourceChecker:
    """Reads a source to its end: `refusals` first, then `result`.

    `first_rows` is how many rows are shown.
    """

    def __init__(self, source: Source, first_rows: int = FIRST_ROWS) -> None:
        self._source = source
        self._first_rows = first_rows
        self._first: list[SourceRecord] = []
        self._shown: list[RefusedLine] = []
        self._refused = self._rows = 0

    def refusals(self) -> Iterator[RefusedRecord]:
        """Yield each line that would be refused because it is invalid. Raises UnreadableFile."""
        return (refusal.record for refusal in self.form_refusals())

    def form_refusals(self) -> Iterator[FormRefusal]:
        """Yield the same lines, each with its first mistake. Raises UnreadableFile.

        The lines pass through the chunks of a submission and through the contract by which a worker
        checks them.
        """
        layout = self._source.layout
        entries = self._observed(self._source.records())
        options = (layout.columns, layout.kind, layout.form)
        for part in split_into_chunks("check", entries, *options, ordered=layout.ordered):
            chunk = KIND_CHUNKS[layout.kind].model_validate_json(part.text)
            self._rows += part.tally.rows - len(chunk.refused)
            refusals = list(map(_unread, chunk.refused))
            refusals += self._records_refused(chunk)
            for refusal in sorted(refusals, key=lambda refusal: refusal.record.line):
                self._refused += 1
                if len(self._shown) < SHOWN_LINES:
                    line, message = refusal.record.line, refusal.record.message
                    self._shown.append(RefusedLine(line=line, message=message, field=refusal.field))
                yield refusal

    def _observed(self, entries: Lines) -> Iterator[Line]:
        """Yield the entries; remember the first records, in which the first rows are."""
        for entry in entries:
            if len(self._first) < self._first_rows and isinstance(entry, SourceRecord):
                self._first.append(entry)
            yield entry

    def _records_refused(self, chunk: Chunk) -> Iterator[FormRefusal]:
        """Yield the records of a chunk that break the contract, for example by a bad time."""
        model = KIND_MODELS[self._source.layout.kind]
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
                refusal = RefusedRecord(
                    id=1,
                    line=line,
                    code=Code.INVALID_REQUEST,
                    message=message,
                    record=record,
                    cells=cells.get(line),
                )
                field = printable(problems[0].field or "")[:MAX_TEXT] or None
                yield FormRefusal(refusal, field, problems[0].message)

    def rows(self) -> list[RowText]:
        """Return what the first rows say, in the order of their lines."""
        rows = chain.from_iterable(map(_rows_of, self._first))
        return sorted(rows, key=lambda row: row.line)[: self._first_rows]

    def result(self) -> FileCheck:
        """Return what was found in the whole file, after `refusals` has yielded all it has."""
        layout = self._source.layout
        account = layout.account
        unread = account.header + account.continued + account.blank + account.skipped
        counts = LineCounts(
            total=account.total,
            header=account.header,
            read=account.total - unread - self._refused,
            continued=account.continued,
            blank=account.blank,
            skipped=account.skipped,
            refused=self._refused,
        )
        return FileCheck(
            file=self._source.name,
            kind=layout.kind,
            form=layout.form,
            columns=layout.columns,
            mapping=layout.mapping,
            first_rows=tuple(row.as_mapping() for row in self.rows()),
            lines=counts,
            rows=self._rows,
            refused=tuple(self._shown),
            content=layout.content,
            ordered=layout.ordered,
        )


def _unread(line: RefusedLine) -> FormRefusal:
    record = RefusedRecord(
        id=1, line=line.line, code=Code.INVALID_REQUEST, message=line.message, cells=line.cells
    )
    return FormRefusal(record, line.field, line.message)


def _rows_of(entry: SourceRecord) -> Iterator[RowText]:
    """Yield what the lines of a record say, as they will be submitted."""
    record = entry.record
    if isinstance(record, dict) and (pairs := _pairs_of(record, len(entry.lines))):
        details = {name: record[name] for name in ("reason", "as_of") if name in record}
        for line, pair in zip(entry.lines, pairs, strict=True):
            yield RowText(line, {"student_id": record.get("student_id"), **pair, **details})
    else:
        yield RowText(entry.lines[0], record if isinstance(record, dict) else {"": record})


def _pairs_of(record: Mapping[str, Any], count: int) -> list[dict[str, Any]] | None:
    """Return the course and the action of each line of a request; None if it has other lines."""
    lists = [(action, record[field]) for action, field in COURSE_FIELDS.items() if field in record]
    if len(lists) != 1 or not isinstance(lists[0][1], list) or len(lists[0][1]) != count:
        return None
    ((action, courses),) = lists
    named = {"action": action.value} if action is Action.DROP else {}
    return [{"course_id": course, **named} for course in courses]
