"""The headers that say where a batch came from: any value is accepted, and only text is stored."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer.contract.headers import (
    MAX_LABEL,
    UNKNOWN_ORIGIN,
    BatchOrigin,
    MessageHeaders,
    label,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_any_value_becomes_a_text_that_can_be_stored_or_nothing(value: Any) -> None:
    stored = label(value)
    headers = MessageHeaders.model_validate({"task": "t", "id": "i", "submitter": value})
    assert headers.submitter == stored == label(stored)
    assert BatchOrigin.from_headers({"submitter": value}) == (None, stored, None)
    if stored is None:
        assert not isinstance(value, str) or not value[:MAX_LABEL].strip()
    else:
        assert 0 < len(stored) <= MAX_LABEL
        assert "\0" not in stored
        assert stored.encode()


def test_lone_surrogates_and_nul_are_replaced_and_long_texts_are_cut() -> None:
    assert label("a\0b\ud800c") == "a\ufffdb\ufffdc"
    assert label("x" * 1_000_000) == "x" * MAX_LABEL
    assert label("   ") is None


def test_an_origin_is_carried_by_headers() -> None:
    origin = BatchOrigin("pairs.csv", "ada")
    assert BatchOrigin.from_headers(origin.headers()) == origin
    assert BatchOrigin(None, " ").headers() == {} == UNKNOWN_ORIGIN.headers()
