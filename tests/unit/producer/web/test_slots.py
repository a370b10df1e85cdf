"""A caller who does not stop leaves room for the others."""

import contextlib

import pytest

from producer.web.problems import Refused
from producer.web.slots import RETRY_SECONDS, WITHOUT_TOKEN, Slots, Sort, sort_of


def takes(slots: Slots, stack: contextlib.ExitStack, caller: str | None, count: int) -> int:
    """Return how many of so many slots a caller gets; they are held by the stack."""
    taken = 0
    for _ in range(count):
        with contextlib.suppress(Refused):
            stack.enter_context(slots.taken(caller))
            taken += 1
    return taken


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_a_caller_gets_half_and_all_together_no_more_than_there_are(sort: Sort, total: int) -> None:
    slots = Slots(sort, total)
    half = max(1, total // 2)
    with contextlib.ExitStack() as stack:
        assert takes(slots, stack, "greedy", total + 1) == half
        assert takes(slots, stack, "honest", 1) == min(1, total - half)
        assert takes(slots, stack, "third", total) == min(half, total - half - min(1, total - half))
    with contextlib.ExitStack() as stack:  # All of them were given back.
        assert takes(slots, stack, "greedy", total) == half


def test_without_tokens_anybody_may_have_all_of_them() -> None:
    with contextlib.ExitStack() as stack:
        assert takes(Slots(Sort.UPLOAD, 64), stack, None, 100) == 64


def test_all_callers_without_a_token_have_half_together_where_others_have_tokens() -> None:
    slots = Slots(Sort.CALL, 10)
    with contextlib.ExitStack() as stack:
        assert takes(slots, stack, WITHOUT_TOKEN, 10) == 5
        with pytest.raises(Refused, match="Callers without a token have too many calls"):
            stack.enter_context(slots.taken(WITHOUT_TOKEN))
        assert takes(slots, stack, "honest", 10) == 5


def takes_one(slots: Slots) -> None:
    with slots.taken("d"):
        pass


@pytest.mark.parametrize("sort", Sort)
def test_a_refusal_says_when_to_come_back(sort: Sort) -> None:
    slots = Slots(sort, 2)
    with slots.taken("a"), pytest.raises(Refused) as refused, slots.taken("a"):
        pass
    assert refused.value.status_code == 429
    assert refused.value.headers == {"Retry-After": str(RETRY_SECONDS[sort])}
    assert sort in refused.value.detail
    with slots.taken("b"), slots.taken("c"), pytest.raises(Refused, match="There are"):
        takes_one(slots)


@pytest.mark.parametrize(
    ("method", "path", "prefer", "sort"),
    [
        ("POST", "/batches", b"", Sort.UPLOAD),
        ("GET", "/batches", b"", Sort.CALL),
        ("POST", "/batches/preview", b"", Sort.UPLOAD),
        ("GET", "/batches/b1/events", b"", Sort.STREAM),
        ("GET", "/batches/b1", b"", Sort.CALL),
        ("POST", "/students/enroll", b"Wait=5", Sort.WAIT),
        ("DELETE", "/students/S/courses/C", b"respond-async, wait=5", Sort.WAIT),
        ("POST", "/students/enroll", b"respond-async", Sort.CALL),
    ],
)
def test_the_sort_of_a_call(method: str, path: str, prefer: bytes, sort: Sort) -> None:
    assert sort_of(method, path, {b"prefer": prefer} if prefer else {}) is sort
