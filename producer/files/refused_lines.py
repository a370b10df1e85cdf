"""The refused lines of a batch as a file that can be mended and submitted again."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, TextIO

from producer.contract.batches import RefusedRecord

LINE, CODE, MESSAGE = "refused_line", "refused_code", "refused_message"
RECORD = "record"


def write_csv(
    file: TextIO, columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]
) -> int:
    """Write each refused line once, with its cells and every reason; returns how many.

    `columns` are those of the submitted CSV file; the records of any other are one column, JSON.
    `refusals` come by line. Columns that an earlier call added are not doubled.
    """
    writer = csv.writer(file, lineterminator="\n")
    count = -1
    for count, row in enumerate(_rows(columns, refusals)):  # noqa: B007 - the header is row 0
        writer.writerow(row)
    return count


def csv_pages(
    columns: Sequence[str] | None, refusals: Iterable[RefusedRecord], page: int = 500
) -> Iterator[str]:
    """The same file as text, some lines at a time."""
    rows = _rows(columns, refusals)
    while some := list(islice(rows, page)):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(some)
        yield text.getvalue()


def _rows(columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]) -> Iterator[list[Any]]:
    names = [RECORD] if columns is None else list(columns)
    kept = [place for place, name in enumerate(names) if name not in (LINE, CODE, MESSAGE)]
    yield [LINE, *(names[place] for place in kept), CODE, MESSAGE]
    for line, group in _by_line(refusals):
        cells = _cells(names, group[0])
        # A line with too few or too many cells is shown as it stands.
        shown = [cells[place] for place in kept] if len(cells) == len(names) else cells
        reasons = "; ".join(dict.fromkeys(one.message for one in group))
        yield [line, *shown, group[0].code.value, reasons]


def write_json_lines(file: TextIO, refusals: Iterable[RefusedRecord]) -> int:
    """Write the refused records, one a line as they were submitted; returns how many.

    A line that never became a record is left out: a CSV file shows it.
    """
    count = 0
    for _, group in _by_line(refusals):
        if group[0].record is not None:
            file.write(json.dumps(group[0].record) + "\n")
            count += 1
    return count


def _by_line(refusals: Iterable[RefusedRecord]) -> Iterator[tuple[int, list[RefusedRecord]]]:
    return ((line, list(group)) for line, group in groupby(refusals, lambda one: one.line))


def _cells(names: Sequence[str], refusal: RefusedRecord) -> list[str]:
    """The cells of a refused line, from its record where they did not travel with it."""
    if refusal.cells is not None:
        return list(refusal.cells)
    record = refusal.record if isinstance(refusal.record, dict) else {}
    return [_cell(name, record, refusal.record) for name in names]


def _cell(name: str, record: dict[str, Any], whole: object) -> str:
    if name == RECORD and name not in record:
        return json.dumps(whole)
    if name in ("student_id", "student_sis_id"):
        return str(record.get("student_id", ""))
    if name in ("course_id", "course_sis_id"):
        return ",".join(map(str, record.get("course_ids", [])))
    return str(record.get(name, ""))
