"""The page says the right next step about an upload, also one that was undone or is held up."""

from datetime import UTC, datetime
from typing import Any

from producer.contract.batches import BatchState
from support.page_modules import run_module
from worker.batches.undone import advice_on_undone
from worker.intervals.undone.repository import Undo

BEGUN = Undo("undo:b", datetime(2026, 9, 1, tzinfo=UTC), is_done=False)
BEING = advice_on_undone("b", BEGUN, BatchState.STALLED)
"""The page knows by the beginning of this sentence that an undo is not at its end."""

STALLED = {"state": "stalled", "chunks": 3, "kind": "enrollments"}

CASES: list[tuple[dict[str, Any], str, str | None]] = [
    ({"batch_id": "undo:b", **STALLED}, "Press “Undo …” below: it continues.", "b"),
    ({"batch_id": "undo:b", **STALLED, "undone_by": "undo:undo:b"}, "nothing to do", None),
    ({"batch_id": "b", **STALLED, "undone_by": "undo:b", "advice": "…"}, "nothing to do", None),
    ({"batch_id": "b", **STALLED, "undone_by": "undo:b", "advice": BEING}, "", None),
    ({"batch_id": "b", **STALLED, "chunks": None}, "Send the same file again", None),
    *(
        ({"batch_id": "b", "state": state, "kind": "enrollments", "advice": "…"}, words, None)
        for state, words in (
            ("staged", "tries again by itself"),
            ("queued", "tries again by itself"),
            ("running", "tries again by itself"),
            ("planned", ""),
            ("held", ""),
            ("discarded", ""),
        )
    ),
    ({"batch_id": "b", "state": "running", "advice": "…", "undone_by": "undo:b"}, "", None),
    ({"batch_id": "b", "state": "done", "kind": "enrollments", "undone_by": "undo:b"}, "", None),
    ({"batch_id": "undo:b", "state": "running", "kind": "enrollments"}, "", None),
    ({"batch_id": "undo:b", "state": "done", "kind": "enrollments"}, "", "undo:b"),
    ({"batch_id": "b", "state": "done", "kind": "enrollments"}, "", "b"),
    ({"batch_id": "s", "state": "done", "kind": "students"}, "", None),
]


def test_each_state_has_its_next_step() -> None:
    statuses = [status for status, _, _ in CASES]
    said = run_module("progress.js", "value.map(page.adviceOn)", statuses)
    offered = run_module("undoable.js", "value.map(page.undoable)", statuses)
    for (status, words, undone), advice, offer in zip(CASES, said, offered, strict=True):
        assert offer == undone, status
        assert words in advice, status
        assert bool(words) == bool(advice), status
