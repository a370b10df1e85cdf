"""Write the planned drops of a plan as a CSV file that a spreadsheet can open safely."""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO, Final

from producer.contract.plans import PlannedDrop
from producer.files.formulas import guard

COLUMNS: Final = (
    "student_id",
    "student_name",
    "course_id",
    "course_title",
    "outcome",
)
"""The header; the ids are SIS ids."""

PAGE: Final = 1_000
"""How many drops are written at once."""


def csv_pages(drops: Iterable[PlannedDrop]) -> Iterator[bytes]:
    """Yield the file in pages, in UTF-8, the first one with the header.

    It begins with a byte order mark, without which Excel takes it for another encoding. An
    apostrophe stands before each cell that a spreadsheet would run as a formula.
    """
    remaining = iter(drops)
    yield codecs.BOM_UTF8 + _lines([COLUMNS, *map(_cells, islice(remaining, PAGE))])
    while page := list(islice(remaining, PAGE)):
        yield _lines(map(_cells, page))


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(map(guard, row) for row in rows)
    return text.getvalue().encode(errors="surrogatepass")


def _cells(drop: PlannedDrop) -> tuple[str, ...]:
    return (
        drop.student_sis_id,
        drop.student_name or "",
        drop.course_sis_id,
        drop.course_title or "",
        drop.outcome or "",
    )


def write_csv(file: BinaryIO, drops: Iterable[PlannedDrop]) -> int:
    """Write the file; return the number of drops. Raises OSError, and what `drops` raises.

    Nothing is written if that fails before the first page.
    """
    count = 0

    def counted() -> Iterator[PlannedDrop]:
        nonlocal count
        for drop in drops:
            count += 1
            yield drop

    pages = csv_pages(counted())
    first = next(pages)  # The file may be one that is created, or emptied, when it is first used.
    file.write(first)
    file.writelines(pages)
    return count
