"""The copies of results and counts: which of them count."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.batches import BatchState, BatchStatus, Books
from producer.contract.cached import (
    BELIEVED_SECONDS,
    BatchDetails,
    SeenMark,
    pack_batch,
    pack_request,
    unpack_batch,
    unpack_request,
)
from producer.schemas import (
    RequestState,
    RequestStatus,
    ResultStatus,
    StudentEnrollmentResponse,
)

OLD_MARK = SeenMark(7, age=3600)
"""A mark that was last written an hour ago."""


def finished(request_id: str) -> RequestStatus:
    result = StudentEnrollmentResponse(
        request_id=request_id,
        student_id="S",
        status=ResultStatus.ENROLLED,
        completed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return RequestStatus(request_id=request_id, state=RequestState.DONE, result=result)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=150))
def test_a_request_is_read_as_it_was_copied(request_id: str) -> None:
    status = finished(request_id)
    assert unpack_request("g", request_id, pack_request("g", status).encode()) == status


@pytest.mark.parametrize(
    "copy",
    [
        pack_request("another", finished("r")),
        pack_request("g", finished("another")),
        pack_request("g", finished("r"))[:-1],
        "g",
        "",
        "g {}",
        "g null",
        'g {"request_id": "r", "state": "new in a later version"}',
    ],
)
def test_a_copy_of_another_generation_or_request_does_not_count(copy: str) -> None:
    assert unpack_request("g", "r", copy.encode()) is None


@given(st.binary(max_size=60))
def test_whatever_lies_in_place_of_a_copy_does_not_count(copy: bytes) -> None:
    assert unpack_request("g", "r", b"g " + copy) is None
    assert unpack_batch("g", "b", b"g 1,2,1 " + copy, 0, OLD_MARK, refusals=True) is None
    assert unpack_batch("g", "b", b"g " + copy, 0, OLD_MARK, refusals=True) is None
    assert unpack_batch("g", "b", copy, 0, OLD_MARK, refusals=True) is None


def test_fields_of_a_newer_worker_are_left_out() -> None:
    copy = pack_request("g", finished("r")).replace('"advice"', '"invented": [1], "advice"')
    assert unpack_request("g", "r", copy.encode()) == finished("r")


def read(
    state: BatchState,
    age: float = 0,
    mark: SeenMark = OLD_MARK,
    *,
    named: bool = True,
    refusals: bool = True,
    seconds_left: float | None = None,
) -> BatchStatus | None:
    """Copy a batch with a refused row, and read the copy when it and the mark have these ages."""
    books = Books(received=1, rejected=1)
    status = BatchStatus(batch_id="b", state=state, books=books, seconds_left=seconds_left)
    copy = pack_batch("g", BatchDetails(1, OLD_MARK.digest, named), status)
    return unpack_batch("g", "b", copy.encode(), age, mark, refusals=refusals)


def test_the_counts_of_a_batch_are_a_second_old_at_most_until_it_is_done() -> None:
    for state in (BatchState.QUEUED, BatchState.RUNNING, BatchState.STALLED):
        assert read(state, age=0.9) is not None
        assert read(state, age=1.1) is None
    assert read(BatchState.DONE, age=BELIEVED_SECONDS - 1) is not None
    assert read(BatchState.DONE, age=BELIEVED_SECONDS + 1) is None


def test_the_end_of_a_batch_is_noticed_soon() -> None:
    """Counts are believed the shorter, the sooner the batch may be done."""
    for state in (BatchState.QUEUED, BatchState.RUNNING):
        for seconds, believed in ((0, 0.05), (0.8, 0.2), (100, 1)):
            mark = SeenMark(OLD_MARK.digest, age=seconds)
            assert read(state, believed - 0.01, mark) is not None
            assert read(state, believed + 0.01, mark) is None
            assert read(state, believed - 0.01, seconds_left=seconds) is not None
            assert read(state, believed + 0.01, seconds_left=seconds) is None


def test_a_batch_that_goes_on_may_no_longer_be_stalled_or_done() -> None:
    changed, written_again = SeenMark(8, age=0.1), SeenMark(OLD_MARK.digest, age=0.1)
    for state in (BatchState.QUEUED, BatchState.RUNNING):
        assert read(state, 0.04, changed) is not None
    for state in (BatchState.STALLED, BatchState.DONE):
        assert read(state, 0.5, changed) is None
    assert read(BatchState.STALLED, 0.5, written_again) is None
    assert read(BatchState.DONE, 0.5, written_again) is not None


def test_a_copy_without_refusals_does_not_answer_those_who_ask_for_them() -> None:
    assert read(BatchState.DONE, named=False) is None
    assert read(BatchState.DONE, named=False, refusals=False) is not None
