"""The advice on a batch that was undone, and on its undo, names the right next step."""

from datetime import UTC, datetime, timedelta

import pytest

from producer.contract.batches import BatchState
from worker.batches.state import STALLED_SECONDS, Standing
from worker.batches.undone import advice_on_undone, standing_of_undo
from worker.intervals.undone.repository import Undo

NOW = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
RECENT, QUIET = NOW - timedelta(seconds=1), NOW - timedelta(seconds=STALLED_SECONDS + 1)
STALLED = Standing(BatchState.STALLED, "submit the batch again under the same batch id")
BEGUN = Undo("undo:b", RECENT, is_done=False)


@pytest.mark.parametrize(
    ("batch_id", "standing", "undo", "state", "words"),
    [
        ("b", STALLED, None, BatchState.STALLED, "submit the batch again"),
        ("undo:b", STALLED, BEGUN, BatchState.STALLED, "run `enroll undo b` again"),
        ("undo:undo:b", STALLED, None, BatchState.STALLED, "run `enroll undo undo:b` again"),
        ("undo:b", Standing(BatchState.RUNNING), BEGUN, BatchState.RUNNING, None),
        ("undo:b", Standing(BatchState.DONE), None, BatchState.DONE, None),
        ("undo:b", Standing(BatchState.UNKNOWN), None, BatchState.UNKNOWN, None),
        ("undo:b", Standing(BatchState.UNKNOWN), BEGUN, BatchState.RUNNING, None),
        (
            "undo:b",
            Standing(BatchState.UNKNOWN),
            BEGUN._replace(begun_at=QUIET),
            BatchState.STALLED,
            "run `enroll undo b` again",
        ),
    ],
)
def test_an_undo_is_continued_and_never_submitted(
    batch_id: str, standing: Standing, undo: Undo | None, state: BatchState, words: str | None
) -> None:
    undos = {} if undo is None else {undo.batch_id.removeprefix("undo:"): undo}
    found = standing_of_undo(batch_id, standing, undos, NOW)
    assert found.state is state
    assert (words in found.advice) if words and found.advice else found.advice is words
    assert "submit" not in (found.advice or "") or not batch_id.startswith("undo:")


@pytest.mark.parametrize(
    ("batch_id", "is_done", "state", "words"),
    [
        ("b", False, BatchState.DONE, "run `enroll undo b` again"),
        ("b", False, BatchState.STALLED, "run `enroll undo b` again"),
        ("b", True, BatchState.DONE, None),
        ("b", True, BatchState.STALLED, "before all of its chunks had been applied"),
        ("undo:b", False, BatchState.DONE, "run `enroll undo undo:b` again"),
        ("undo:b", True, BatchState.STALLED, "before it was complete"),
    ],
)
def test_a_batch_that_was_undone_needs_nothing_more(
    batch_id: str, is_done: bool, state: BatchState, words: str | None
) -> None:
    advice = advice_on_undone(batch_id, Undo(f"undo:{batch_id}", QUIET, is_done), state)
    assert (advice is None) == (words is None)
    assert words is None or words in str(advice)
