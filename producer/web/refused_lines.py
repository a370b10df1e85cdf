"""Define the route that returns the refused lines of a batch, to be corrected and sent again."""

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import Depends
from pydantic import TypeAdapter

from producer.aio.client import AsyncEnrollmentClient
from producer.contract.batches import BatchStatus, RefusedRecord
from producer.contract.lookups import Number
from producer.files.columns import plain_name
from producer.files.formats.layouts import columns_of_format
from producer.files.formats.table_reader import TableColumns
from producer.files.mistakes import field_of, rule_of
from producer.files.refused_lines import cells_of
from producer.web.access import CallerOfRoute
from producer.web.batches import VisibleBatch, record_refusals, with_planned_refusals
from producer.web.bodies import RefusedLines, RefusedLineToCorrect
from producer.web.cursors import read_cursor, write_cursor
from producer.web.disclosing import Disclosures
from producer.web.owners import has_refused_lines
from producer.web.parameters import Client, LineLimit, LinesCursor, RefusalCode, RefusalMessage

EXAMINED: Final = 5_000
"""The most refusals that are examined for one page, if only those with a message are wanted."""

PAGE: Final = 1_000
"""How many refusals are looked up at once in that case."""

MAX_PAGE_TEXT: Final = 4_000_000
"""The most characters of the refusals that are examined for one page, besides those of the last."""

_Place = tuple[Number, Number]
_PLACE: TypeAdapter[_Place] = TypeAdapter(_Place)


class _Search:
    """A page of the refused lines of a batch, while it is looked up."""

    def __init__(
        self,
        code: RefusalCode = None,
        message: RefusalMessage = None,
        limit: LineLimit = 100,
        after: LinesCursor = None,
    ) -> None:
        self._code = code
        self._message = message
        self._limit = limit
        self._after: _Place = (0, 0) if after is None else read_cursor(_PLACE, after)

    async def run(
        self, client: AsyncEnrollmentClient, status: BatchStatus
    ) -> tuple[list[RefusedLineToCorrect], str | None]:
        """Return the lines of a page, and where the next one begins, if anything may follow."""
        known = _known_columns(status)
        mapping = _mapping_of(status) | dict(known.shown if known else {})
        lines: list[RefusedLineToCorrect] = []
        after, examined, room = self._after, 0, MAX_PAGE_TEXT
        while examined < EXAMINED and room > 0:
            size = self._limit if self._message is None else PAGE
            page = await client.refusal_page(
                status.batch_id, after=after, limit=size, code=self._code
            )
            for refusal in page:
                after = (refusal.line, refusal.id)
                room -= _size_of(refusal)
                line = _line(refusal, status, mapping, known)
                if self._message in (None, line.rule, line.message):
                    lines.append(line)
                if len(lines) == self._limit or room <= 0:
                    return lines, write_cursor(_PLACE, after)
            examined += len(page)
            if not page:
                return lines, None
        return lines, write_cursor(_PLACE, after)


def _size_of(refusal: RefusedRecord) -> int:
    """Return about how many characters a refusal has."""
    record = 0 if refusal.record is None else len(str(refusal.record))
    return record + len(refusal.message) + sum(map(len, refusal.cells or ()))


def _known_columns(status: BatchStatus) -> TableColumns | None:
    """Return how our columns were read from a file of another system; None for any other file."""
    form = status.form
    if form is None or form.format is None or status.columns is None:
        return None
    return columns_of_format(form.format, status.file_name, status.columns)


def _mapping_of(status: BatchStatus) -> dict[str, str]:
    """Return our columns of a CSV file, each with the column or template that it is made from."""
    own = {plain_name(column): column for column in reversed(status.columns or ())}
    mapped = status.form.mapping if status.form is not None else None
    return own | dict(mapped or {})


def _line(
    refusal: RefusedRecord,
    status: BatchStatus,
    mapping: Mapping[str, str],
    known: TableColumns | None,
) -> RefusedLineToCorrect:
    field = field_of(refusal.code, refusal.message, mapping)
    if field is None and known is not None:  # The reader names the columns of the file.
        named = refusal.message.partition(": ")[0]
        field = next((ours for ours, shown in known.shown.items() if shown == named), None)
    record = refusal.record
    return RefusedLineToCorrect(
        line=refusal.line,
        code=refusal.code,
        field=field,
        message=refusal.message,
        rule=rule_of(refusal.message, field),
        cells=cells_of(status.columns, refusal),
        record=record,
        student_id=record.get("student_id") if isinstance(record, dict) else None,
        meant=refusal.meant,
    )


async def get_refused_lines(
    status: VisibleBatch,
    client: Client,
    caller: CallerOfRoute,
    disclosures: Disclosures,
    search: Annotated[_Search, Depends(_Search)],
) -> RefusedLines:
    """Return a page of the refused lines of a batch, by line, with what is needed to correct them.

    To submit lines again, send a CSV file with `columns` and the corrected cells to
    `POST /batches`, with `mapping`, `drop`, `format` and the other choices that are named here.
    Without the scope `lookup`, only batches of the same caller are known.
    """
    is_known = has_refused_lines(caller, status)
    lines, end = await search.run(client, status) if is_known else ([], None)
    shown = await with_planned_refusals(client, status)
    await record_refusals("refused_lines", shown, disclosures)
    form, known = status.form, _known_columns(status)
    return RefusedLines(
        columns=status.columns,
        mapping=None if form is None else form.mapping,
        drop=form is not None and form.drop,
        format=None if form is None else form.format,
        sections_are_one=form is not None and form.sections_are_one,
        moments_from_file=form is not None and form.moments_from_file,
        sources={} if known is None else known.sources,
        lines=tuple(lines),
        next=end,
    )
