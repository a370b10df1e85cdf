"""Ages as an operator writes them."""

from datetime import timedelta

import pytest

from worker.retention.prune import parse_age


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("36h", timedelta(hours=36)),
        ("400d", timedelta(days=400)),
        ("12w", timedelta(weeks=12)),
        (" 1h ", timedelta(hours=1)),
        ("36600d", timedelta(days=36600)),
    ],
)
def test_an_age_is_a_number_of_hours_days_or_weeks(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "400", "d", "-1d", "1.5d", "4 d", "1y", "400D", "٣d", "1d1h"])
def test_an_invalid_age_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="400d") as caught:
        parse_age(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0h", "0d", "999999999d", "36601d", "999999999w"])
def test_an_age_outside_the_limits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at least 1h, at most 100 years"):
        parse_age(text)
