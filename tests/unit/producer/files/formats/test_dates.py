"""An end in the past drops a student only if no other day can be meant."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from producer.files.formats.dates import days_of
from producer.publishing.dating import BATCH_MOMENT
from support.packages import ReadFile, encoded, read_file

CANVAS = ("course_id,user_id,role,status,start_date,end_date", "C1,U1,student,active,{},{}")
ONEROSTER = (
    "sourcedId,classSourcedId,userSourcedId,role,beginDate,endDate",
    "e1,C1,U1,student,{},{}",
)


def read_on_27_november(file: tuple[str, str], begin: str, end: str, folder: Path) -> ReadFile:
    """Read a line of a file with these dates on 27 November 2026."""
    token = BATCH_MOMENT.set(datetime(2026, 11, 27, 12, tzinfo=UTC))
    try:
        return read_file(encoded([file[0], file[1].format(begin, end)]), folder)
    finally:
        BATCH_MOMENT.reset(token)


@pytest.mark.parametrize("file", [CANVAS, ONEROSTER])
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("01/09/2026", "10/12/2026"),
        ("9/1/26", "11-12-26"),
        ("2026-08-01", "1900-01-01"),
        ("2026-08-01", "0001-01-01T00:00:00"),
        ("2026-08-01", "1970-01-01T00:00:00Z"),
        ("2026-08-01", "2026-07-31"),
        ("1900-01-01", "1900-01-01"),
    ],
)
def test_an_end_that_may_not_be_over_drops_no_student(
    tmp_path: Path, file: tuple[str, str], begin: str, end: str
) -> None:
    read = read_on_27_november(file, begin, end, tmp_path)
    assert (len(read.enrolled), read.dropped) == (1, {})
    (notice,) = read.notices
    assert f"no student is dropped for it, first in line 2: {end!r}. Write dates as" in notice


@pytest.mark.parametrize("file", [CANVAS, ONEROSTER])
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("9/1/2025", "6/30/2026"),
        ("01/09/2025", "30/06/2026"),
        ("01/09/2025", "10/11/2026"),
        ("20250901", "20260630"),
        ("1-SEP-25", "30-Jun-2026 00:00:00"),
        ("Sept. 1 2025", "june 30 2026"),
        ("2025-09-01", "2025-09-01"),
        ("2025-09-01T00:00:00.0000000Z", "2026-06-30T23:59:59.0000000Z"),
    ],
)
def test_an_end_that_is_over_in_every_reading_is_a_drop(
    tmp_path: Path, file: tuple[str, str], begin: str, end: str
) -> None:
    read = read_on_27_november(file, begin, end, tmp_path)
    assert (read.enrolled, read.dropped) == ({}, {("U1", "C1"): "ended"})


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2026-12-31", [date(2026, 12, 31)]),
        ("12/31/2026", [date(2026, 12, 31)]),
        ("31/12/2026", [date(2026, 12, 31)]),
        ("5/5/26", [date(2026, 5, 5)]),
        ("10/12/2026", [date(2026, 10, 12), date(2026, 12, 10)]),
        ("2026-02-30", []),
        ("0000-00-00", []),
        ("soon", []),
    ],
)
def test_a_date_means_one_day_or_two(text: str, days: list[date]) -> None:
    assert list(days_of(text, UTC)) == days


@pytest.mark.parametrize(
    "text",
    ["20261301", "12202026", "2026091", "31-FEB-2026", "1-Sem-2026", "Fall 1, 2026", "Dec 2026"],
)
def test_a_text_that_is_no_date_has_no_meaning(text: str) -> None:
    days = days_of(text, UTC)
    assert not days or days[0].year < 1980
