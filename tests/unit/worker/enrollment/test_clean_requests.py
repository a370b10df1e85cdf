"""Clean requests as columns say what the same requests say one by one."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from worker.enrollment.clean_requests import CleanRequests
from worker.enrollment.values import CleanRequest

keys = st.integers(1, 6)
chunks = st.lists(
    st.tuples(st.integers(0, 3), keys, st.lists(keys, min_size=1, max_size=3)), max_size=8
)
"""Requests: how many others stand before each in the chunk, a student, and the courses."""


def one_by_one(chunk: Sequence[tuple[int, int, list[int]]]) -> list[CleanRequest]:
    """Return the requests, with students that are named by SIS id."""
    requests: list[CleanRequest] = []
    position = -1
    for others, student, courses in chunk:
        position += 1 + others
        requests.append((position, student, f"S{student}", courses))
    return requests


def as_columns(requests: Sequence[CleanRequest]) -> CleanRequests:
    return CleanRequests(
        [position for position, *_ in requests],
        [student for _, student, *_ in requests],
        [named for _, _, named, _ in requests],
        [len(courses) for *_, courses in requests],
        [course for *_, courses in requests for course in courses],
    )


@given(chunks)
def test_columns_hold_the_rows_of_the_requests_in_the_order_of_their_keys(
    chunk: list[tuple[int, int, list[int]]],
) -> None:
    requests = one_by_one(chunk)
    columns = as_columns(requests)
    rows = [(student, course, i) for i, student, _, courses in requests for course in courses]
    assert columns.rows == sorted(rows)
    assert columns.listed_pairs == [(student, course) for student, course, _ in rows]
    assert columns.pairs == set(columns.listed_pairs)
    assert columns.name_a_row_twice() == (len(columns.pairs) < len(rows))


@given(chunks)
def test_columns_hold_the_requests_in_the_order_of_their_students(
    chunk: list[tuple[int, int, list[int]]],
) -> None:
    requests = one_by_one(chunk)
    columns = as_columns(requests)
    assert len(columns) == len(requests)
    assert columns.by_student == sorted(requests, key=lambda request: request[1])


@given(chunks, st.sets(st.tuples(keys, keys)))
def test_requests_are_divided_by_whether_they_name_one_of_some_pairs(
    chunk: list[tuple[int, int, list[int]]], pairs: set[tuple[int, int]]
) -> None:
    requests = one_by_one(chunk)
    others = [r for r in requests if any((r[1], course) in pairs for course in r[3])]
    kept, positions = as_columns(requests).divide(pairs)
    assert kept.by_student == as_columns([r for r in requests if r not in others]).by_student
    assert positions == [position for position, *_ in others]
