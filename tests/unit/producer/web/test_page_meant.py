"""The page calls an id meant exactly where a search matches it only as a number."""

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.schemas import Kind
from producer.testing import FakeEnrollmentClient
from support.page_modules import run_module

_IDS = st.builds(
    lambda zeros, rest: "0" * zeros + rest,
    st.integers(0, 3),
    st.sampled_from(["1", "10", "4300", "0", "A1", "4300.0", "4.3E+03", "-1"]),
)
_TEXTS = st.builds(
    lambda text, end: f" {text}{end}", _IDS, st.sampled_from(["", ".0", ".00", ".5"])
)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(_TEXTS, _IDS), min_size=1, max_size=80))
def test_the_page_offers_an_id_that_differs_only_in_zeros(pairs: list[tuple[str, str]]) -> None:
    shown = run_module("meant.js", "value.map(([text, id]) => page.mayMean(text, id))", pairs)
    for (text, sis_id), is_meant in zip(pairs, shown, strict=True):
        client = FakeEnrollmentClient()
        client.submit_batch(Kind.STUDENTS, [{"sis_id": sis_id}])
        found = [student.sis_id for student in client.find_students(text).students]
        assert is_meant == (found == [sis_id] and text.strip() != sis_id), (text, sis_id)
