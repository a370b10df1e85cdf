"""Both clients publish drops as they publish enrollments, and operation lists in order."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from producer.errors import BatchConflict, InvalidRequest, UnreadableFile
from producer.fields import MAX_CHUNK_RECORDS
from producer.publishing.batches import SubmittedBatch
from producer.schemas import StudentEnrollmentRequest
from support.recording import RecordingWorker

DROP = {"student_id": "S1", "drop_course_ids": ["C1"], "reason": "moved", "request_id": "r1"}
SWAP = {"student_id": "S1", "course_ids": ["C2"], "drop_course_ids": ["C1"], "request_id": "r2"}

Call = Callable[..., Any]


@pytest.fixture
def worker() -> RecordingWorker:
    return RecordingWorker()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, worker: RecordingWorker) -> Call:
    """Calls a verb of a client and returns its result."""

    async def call_async(verb: str, *args: Any, **options: Any) -> Any:
        async with worker.async_client() as client:
            return await getattr(client, verb)(*args, **options)

    def call_sync(verb: str, *args: Any, **options: Any) -> Any:
        with worker.client() as client:
            return getattr(client, verb)(*args, **options)

    if request.param == "sync":
        return call_sync
    return lambda *args, **options: asyncio.run(call_async(*args, **options))


@pytest.mark.parametrize("as_model", [False, True])
def test_a_drop_is_a_request(call: Call, worker: RecordingWorker, as_model: bool) -> None:
    for fields in (DROP, SWAP):
        request = StudentEnrollmentRequest.model_validate(fields) if as_model else fields
        assert call("submit", request) == fields["request_id"]
    assert worker.requests == [DROP, SWAP]


def test_an_invalid_drop_is_not_published(call: Call, worker: RecordingWorker) -> None:
    with pytest.raises(InvalidRequest, match=r"drop_course_ids\[0\]: is also in course_ids"):
        call("submit", {**SWAP, "drop_course_ids": ["C2"]})
    assert worker.messages == []


def test_records_that_are_drops_need_no_option(call: Call, worker: RecordingWorker) -> None:
    records = [{"student_id": f"S{n}", "drop_course_ids": ["C1", "C2"]} for n in (1, 2)]
    batch: SubmittedBatch = call("submit_batch", "enrollments", records)
    assert (batch.tally.requests, batch.tally.rows) == (2, 4)
    (chunk,) = worker.chunks
    assert not chunk.ordered
    assert chunk.requests is not None
    assert chunk.requests.drop_course_ids == (("C1", "C2"), ("C1", "C2"))


@pytest.mark.parametrize("ordered", [False, True])
def test_a_batch_is_in_order_if_its_submitter_says_so(
    call: Call, worker: RecordingWorker, ordered: bool
) -> None:
    records = [{"student_id": "S1", "course_ids": ["C1"]}] * 3
    call("submit_batch", "enrollments", records, ordered=ordered)
    assert [chunk.ordered for chunk in worker.chunks] == [ordered]


def test_the_chunks_of_a_roster_stay_as_they_are(worker: RecordingWorker) -> None:
    with worker.client() as client:
        client.submit_batch("students", [{"sis_id": "S1"}], ordered=True)
    (message,) = worker.messages
    assert "ordered" not in message.args[0]


def test_a_batch_in_order_is_not_resumed_as_one_without(worker: RecordingWorker) -> None:
    records = [{"student_id": "S1", "course_ids": ["C1"]}]
    with worker.client() as client:
        client.submit_batch("enrollments", records, batch_id="b", ordered=True)
        client.submit_batch("enrollments", records, batch_id="b", ordered=True)
        with pytest.raises(BatchConflict):
            client.submit_batch("enrollments", records, batch_id="b")


def test_what_follows_a_batch_in_order_counts_later_than_its_last_record(
    worker: RecordingWorker,
) -> None:
    # A chunk of one record leaves room for as many moments as one of the greatest size.
    records = [{"student_id": "é" * 150_000, "course_ids": [f"C{n}"]} for n in range(30)]
    began = time.monotonic()
    with worker.client() as client:
        batch = client.submit_batch("enrollments", records, ordered=True)
    assert batch.chunks > 10
    assert time.monotonic() - began >= (batch.chunks - 1) * MAX_CHUNK_RECORDS * 1e-6


def test_a_file_may_be_one_of_drops(call: Call, worker: RecordingWorker, tmp_path: Path) -> None:
    path = tmp_path / "drops.csv"
    path.write_text("student_id,course_id\nS1,C1\nS1,C2\nS2,C1\n")
    call("submit_file", path, drop=True)
    (chunk,) = worker.chunks
    assert not chunk.ordered
    assert chunk.requests is not None
    assert chunk.requests.drop_course_ids == (("C1", "C2"), ("C1",))
    assert chunk.requests.course_ids == ()


def test_a_file_with_actions_is_in_order(
    call: Call, worker: RecordingWorker, tmp_path: Path
) -> None:
    path = tmp_path / "changes.csv"
    path.write_text("student_id,course_id,action\nS1,C1,drop\nS1,C1,enroll\n")
    with pytest.raises(UnreadableFile, match="has a column action"):
        call("submit_file", path, drop=True)
    call("submit_file", path)
    (chunk,) = worker.chunks
    assert chunk.ordered
    asked = [(r.course_ids, r.drop_course_ids) for r in chunk.records_in_order]
    assert asked == [((), ("C1",)), (("C1",), ())]
