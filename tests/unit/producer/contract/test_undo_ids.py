"""The ids of batches that undo others: reserved for them, and longer than those of submitters."""

import pytest
from pydantic import TypeAdapter

from producer.contract.chunks import EnrollmentChunk
from producer.contract.explain import parse_record
from producer.errors import InvalidRequest
from producer.fields import MAX_REQUEST_ID, StoredId
from producer.testing import FakeEnrollmentClient

UNDO_OF_UNDO = "undo:undo:" + "x" * MAX_REQUEST_ID


def test_no_submitter_can_use_the_id_of_an_undo() -> None:
    chunk, (problem,) = parse_record(EnrollmentChunk, {"batch_id": "undo:b", "number": 0})
    assert chunk is None
    assert problem.message == (
        "batch_id: must not begin with undo:, because such ids belong to the batches that undo"
        " others; choose another id"
    )
    with pytest.raises(InvalidRequest, match="must not begin with undo:"):
        FakeEnrollmentClient().submit_batch("enrollments", [], batch_id="undo:b")


def test_the_id_of_an_undo_can_be_looked_up() -> None:
    assert TypeAdapter(StoredId).validate_python(UNDO_OF_UNDO) == UNDO_OF_UNDO
    assert FakeEnrollmentClient().batch(UNDO_OF_UNDO).state == "unknown"


@pytest.mark.parametrize("too_long", ["x" * 129, "undo:" + "x" * 129, "undo:" * 7 + "x" * 128])
def test_a_longer_id_is_refused(too_long: str) -> None:
    with pytest.raises(InvalidRequest, match="must be a string of 1 to 128 characters"):
        FakeEnrollmentClient().batch(too_long)
