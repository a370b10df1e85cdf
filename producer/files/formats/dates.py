"""Read the dates in the files of other systems, and say which day a batch counts from."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo

from producer.errors import UnreadableFile

TIMEZONE = "ENROLL_TIMEZONE"
"""The variable with the time zone in which a day ends."""

_EARLIEST_YEAR = 1980
"""An end before this year stands for none: systems write 1900-01-01, 1970-01-01 and the like."""

_ISO = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]|$)")
_SLASHES = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d{2})(?: |$)")
_DIGITS = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T|$)")
_DAY_FIRST = re.compile(r"(\d{1,2})[- ]([a-z]{3,9})[- ](\d{4}|\d{2})(?:[ T]|$)", re.IGNORECASE)
_MONTH_FIRST = re.compile(r"([a-z]{3,9})\.? (\d{1,2}),? (\d{4})(?: |$)", re.IGNORECASE)
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_SECONDS = re.compile(r"\d{9,10}")
"""A time in seconds since 1970, as Moodle writes it."""
_ZONED = re.compile(r"[T ]\d.*(?:Z|[+-]\d{2}:?\d{2})$", re.IGNORECASE)


def time_zone() -> tzinfo:
    """Return the time zone of `ENROLL_TIMEZONE`, by default UTC. Raises UnreadableFile."""
    name = os.environ.get(TIMEZONE) or "UTC"
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise UnreadableFile(
            f"{TIMEZONE} is {name!r}, which is not a time zone; write its name, for example"
            " Europe/Berlin."
        ) from None


def days_of(text: str, zone: tzinfo) -> tuple[date, ...]:
    """Return the days that a date or a time can mean, in this time zone; () if it is not a date.

    Dates are ISO 8601, or have slashes: month, day and year, or day, month and year. Of these,
    10/12/2026 has two meanings. A month may also have its English name: 20-DEC-2026, Dec 20, 2026.
    A time without a zone keeps its day.
    """
    with suppress(ValueError, OverflowError):
        if _ZONED.search(text):
            return (datetime.fromisoformat(text.upper()).astimezone(zone).date(),)
        if _SECONDS.fullmatch(text):
            return (datetime.fromtimestamp(int(text), zone).date(),)
    if match := _ISO.match(text) or _DIGITS.match(text):
        year, month, day = map(int, match.groups())
        return _dates(year, (month, day))
    if match := _SLASHES.match(text):
        first, second, year = map(int, match.groups())
        pairs = dict.fromkeys([(first, second), (second, first)])
        return _dates(_whole_year(year), *pairs)
    return _with_named_month(text)


def _with_named_month(text: str) -> tuple[date, ...]:
    """Return the day that a date with the name of a month means; () if it is not one."""
    if match := _DAY_FIRST.match(text):
        return _dates(_whole_year(int(match[3])), (_month(match[2]), int(match[1])))
    if match := _MONTH_FIRST.match(text):
        return _dates(int(match[3]), (_month(match[1]), int(match[2])))
    return ()


def _whole_year(year: int) -> int:
    return year + 2000 if year < 100 else year  # noqa: PLR2004


def _month(name: str) -> int:
    """Return the number of a month by its name or the first three letters; 0 if it is not one."""
    months = (number for number, month in enumerate(_MONTHS, 1) if _is_short_for(name, month))
    return next(months, 0)


def _is_short_for(name: str, month: str) -> bool:
    return name.casefold() in (month, month[:3], "sept" if month == "september" else month)


def is_plausible(begin: Sequence[date], end: Sequence[date]) -> bool:
    """Return whether an end in the past is meant: it is no placeholder and not before its begin."""
    return min(end).year >= _EARLIEST_YEAR and not (begin and max(end) < min(begin))


def _dates(year: int, *pairs: tuple[int, int]) -> tuple[date, ...]:
    """Return the dates of this year with a month and a day; pairs that are none are left out."""
    days = []
    for month, day in pairs:
        with suppress(ValueError):
            days.append(date(year, month, day))
    return tuple(days)
