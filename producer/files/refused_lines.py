"""Write the refused lines of a batch to a file that can be corrected and submitted again."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TextIO

from producer.contract.batches import RefusedRecord
from producer.files.columns import COURSE_COLUMNS, STUDENT_COLUMNS

LINE, CODE, MESSAGE = "refused_line", "refused_code", "refused_message"
RECORD = "record"


def write_csv(
    file: TextIO, columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]
) -> int:
    """Write each refused line once, with its cells and every reason; return the number of lines.

    `columns` is the header of the submitted CSV file; if it is None, each record is written as
    JSON in a single column. `refusals` must be sorted by line. If the submitted file was itself
    written by this function, the columns that it added are not repeated.
    """
    writer = csv.writer(file, lineterminator="\n")
    count = -1
    for count, row in enumerate(_rows(columns, refusals)):  # noqa: B007 - the header is row 0
        writer.writerow(row)
    return count


def csv_pages(
    columns: Sequence[str] | None, refusals: Iterable[RefusedRecord], page: int = 500
) -> Iterator[str]:
    """Yield the same file as text, a page of lines at a time."""
    rows = _rows(columns, refusals)
    while page_rows := list(islice(rows, page)):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(page_rows)
        yield text.getvalue()


def _rows(columns: Sequence[str] | None, refusals: Iterable[RefusedRecord]) -> Iterator[list[Any]]:
    names = [RECORD] if columns is None else list(columns)
    own = [index for index, name in enumerate(names) if name not in (LINE, CODE, MESSAGE)]
    # The reason comes first, so that it stays under its heading if a line has too few cells.
    yield [LINE, CODE, MESSAGE, *(names[index] for index in own)]
    for line, group in _by_line(refusals):
        cells = _cells(names, _with_record(group))
        # A line with too few or too many cells is written unchanged.
        own_cells = [cells[index] for index in own] if len(cells) == len(names) else cells
        reasons = "; ".join(dict.fromkeys(refusal.message for refusal in group))
        yield [line, group[0].code.value, reasons, *own_cells]


def write_json_lines(file: TextIO, refusals: Iterable[RefusedRecord]) -> int:
    """Write the refused records as they were submitted, one per line; return their number.

    Lines that could not be turned into a record are left out; `write_csv` includes them.
    """
    count = 0
    for _, group in _by_line(refusals):
        record = _with_record(group).record
        if record is not None:
            file.write(json.dumps(record) + "\n")
            count += 1
    return count


def _by_line(refusals: Iterable[RefusedRecord]) -> Iterator[tuple[int, list[RefusedRecord]]]:
    return ((line, list(group)) for line, group in groupby(refusals, attrgetter("line")))


def _with_record(group: Sequence[RefusedRecord]) -> RefusedRecord:
    """Return the refusal of a line that holds its record: the others do not repeat it."""
    return next((refusal for refusal in group if refusal.record is not None), group[0])


def _cells(names: Sequence[str], refusal: RefusedRecord) -> list[str]:
    """Return the cells of a refused line, made from its record if they did not travel with it."""
    if refusal.cells is not None:
        return list(refusal.cells)
    record = refusal.record if isinstance(refusal.record, dict) else {}
    return [_cell(name, record, refusal.record) for name in names]


def _cell(name: str, record: dict[str, Any], submitted: object) -> str:
    if name == RECORD and name not in record:
        return json.dumps(submitted)
    if name in STUDENT_COLUMNS:
        return str(record.get("student_id", ""))
    if name in COURSE_COLUMNS:
        return ",".join(map(str, record.get("course_ids", [])))
    return str(record.get(name, ""))
