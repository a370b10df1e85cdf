"""What is packed of a chunk's fresh requests is what comes out again."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from producer.fields import MAX_KEY
from worker.enrollment.clean_requests import CleanRequests
from worker.enrollment.derived.entries import (
    MAX_COURSES,
    Entry,
    are_short,
    is_short,
    pack,
    pack_all,
    student_key,
    unpack,
    unpack_all,
)
from worker.enrollment.values import CleanRequest

keys = st.integers(1, MAX_KEY)
wanted = st.lists(keys, min_size=1, max_size=MAX_COURSES)
requests = st.tuples(keys, st.booleans(), wanted) | st.none()


@given(st.lists(requests, max_size=12), st.randoms(use_true_random=False))
def test_fresh_requests_are_found_at_their_positions(
    chunk: list[tuple[int, bool, list[int]] | None], chance: object
) -> None:
    expected: dict[int, Entry] = {}
    clean: list[CleanRequest] = []
    for position, request in enumerate(chunk):
        if request is not None:
            student, by_key, courses = request
            clean.append((position, student, student if by_key else f"S{student}", courses))
            expected[position] = Entry(student, by_key, courses)
    chance.shuffle(clean)  # type: ignore[attr-defined]
    packed = pack(clean, len(chunk))
    if packed is None:
        assert expected == {}
        return
    assert dict(unpack_all(packed)) == expected
    for position, entry in expected.items():
        own = packed.entries[position * packed.size :][: packed.size]
        assert unpack(own) == entry
        assert own.startswith(student_key(entry.student, is_named_by_key=entry.is_named_by_key))


def columns_of(requests: Sequence[tuple[int, bool, Sequence[int]]]) -> CleanRequests:
    """Return the requests of a chunk as columns."""
    return CleanRequests(
        range(len(requests)),
        [student for student, _, _ in requests],
        [student if by_key else f"S{student}" for student, by_key, _ in requests],
        [len(courses) for _, _, courses in requests],
        [course for _, _, courses in requests for course in courses],
    )


@given(st.lists(st.tuples(keys, st.booleans(), wanted), max_size=12), st.integers(0, 2))
def test_a_chunk_of_fresh_requests_is_packed_as_its_requests_are(
    chunk: list[tuple[int, bool, list[int]]], others: int
) -> None:
    requests = columns_of(chunk)
    count = len(chunk) + others
    assert pack_all(requests, count) == pack(requests.by_student, count)


def test_there_is_no_entry_behind_the_last_one() -> None:
    assert unpack(b"") is None


def test_requests_are_short_up_to_a_number_of_courses() -> None:
    short: CleanRequest = (0, 1, "S", list(range(1, MAX_COURSES + 1)))
    long: CleanRequest = (1, 1, "S", list(range(1, MAX_COURSES + 2)))
    assert (is_short(short), is_short(long)) == (True, False)
    both = [(1, False, courses) for *_, courses in (short, long)]
    assert (are_short(columns_of(both[:1] * 2)), are_short(columns_of(both))) == (True, False)
    assert are_short(columns_of([]))
