"""Moments as text: what is read, what is refused and why, and how they are written."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.explain import parse_record
from producer.contract.headers import MOMENT_HEADER, BatchOrigin, moment_headers, moment_in
from producer.contract.refusals import ahead_of_clock
from producer.fields import read_moment, show_moment
from producer.schemas import StudentEnrollmentRequest

EIGHT = datetime(2026, 9, 1, 8, tzinfo=UTC)
moments = st.datetimes(
    datetime(1900, 1, 2),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.timezones(),
    allow_imaginary=False,
)


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-01T08:00:00Z",
        "2026-09-01t08:00z",
        "2026-09-01 08:00:00+00:00",
        "2026-09-01T10:00:00.000000+02:00",
        "2026-09-01T03:00:00,000-0500",
        "2026-09-01T08:00:00.000000999Z",
        EIGHT,
        EIGHT.astimezone(timezone(timedelta(hours=-3))),
    ],
)
def test_a_time_with_its_zone_is_read_in_utc(text: Any) -> None:
    moment = read_moment(text)
    assert moment == EIGHT
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2026-09-01T08:00:00", "with its time zone"),
        ("2026-09-01", "with its time zone"),
        ("2026-09-01T08Z", "with its time zone"),
        ("tomorrow", "with its time zone"),
        ("1788249600", "with its time zone"),
        ("", "with its time zone"),
        ("2026-W36-2T08:00:00Z", "with its time zone"),
        ("٢٠٢٦-09-01T08:00:00Z", "with its time zone"),
        (1788249600, "with its time zone"),
        (1788249600.5, "with its time zone"),
        (True, "with its time zone"),
        (datetime(2026, 9, 1, 8), "with its time zone"),  # noqa: DTZ001 - the fault
        ("2026-02-30T08:00:00Z", "a time that exists"),
        ("2026-09-01T25:00:00Z", "a time that exists"),
        ("0000-09-01T08:00:00Z", "a time that exists"),
        ("1899-12-31T23:59:59Z", "in the years 1900 to 9999"),
        ("0001-01-01T00:00:00+14:00", "in the years 1900 to 9999"),
        ("9999-12-31T23:59:59-12:00", "in the years 1900 to 9999"),
    ],
)
def test_anything_else_is_refused_with_the_reason(value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_moment(value)
    record = {"student_id": "A", "course_ids": ["M"], "as_of": value}
    parsed, (problem,) = parse_record(StudentEnrollmentRequest, record)
    assert parsed is None
    assert problem.field == "as_of"
    assert why in problem.message


@given(moments)
def test_a_moment_survives_as_text_in_headers_and_in_records(local: datetime) -> None:
    moment = local.astimezone(UTC)
    assert read_moment(local) == moment
    assert read_moment(show_moment(moment)) == moment
    assert moment_in(moment_headers(moment)) == moment
    request = StudentEnrollmentRequest(student_id="A", course_ids=["M"], as_of=moment)
    text = request.model_dump_json()
    assert StudentEnrollmentRequest.model_validate_json(text) == request


@pytest.mark.parametrize("value", [None, "", "soon", 7, [], "2026-09-01T08:00:00"])
def test_a_header_that_is_no_moment_is_none(value: Any) -> None:
    assert BatchOrigin.from_headers({MOMENT_HEADER: value}).moment is None


def test_a_time_more_than_five_minutes_ahead_is_refused_with_both_times() -> None:
    assert ahead_of_clock(EIGHT + timedelta(minutes=5), EIGHT) is None
    problem = ahead_of_clock(EIGHT + timedelta(minutes=6), EIGHT)
    assert problem is not None
    assert "2026-09-01T08:06:00.000000Z" in problem.message
    assert "2026-09-01T08:00:00.000000Z" in problem.message
