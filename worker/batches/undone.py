"""Say where an undo stands, and what to do about it and about the batch it undoes. No SQL."""

from collections.abc import Mapping
from datetime import datetime

from producer.contract.batches import BatchState
from producer.contract.printable import shell_argument
from producer.fields import UNDO_PREFIX
from worker.batches.state import STALLED_SECONDS, Standing
from worker.intervals.undone.repository import Undo


def batch_it_undoes(batch_id: str) -> str | None:
    """Return the batch that a batch undoes; None if it is no undo."""
    return batch_id.removeprefix(UNDO_PREFIX) if batch_id.startswith(UNDO_PREFIX) else None


def standing_of_undo(
    batch_id: str, standing: Standing, undos: Mapping[str, Undo], now: datetime
) -> Standing:
    """Return where an undo stands, with what to do if it does not go on.

    `standing` is what its ledger says. `undos` has the undos of batches by batch: one may have
    begun, and nothing of it be applied.
    """
    undone = batch_it_undoes(batch_id)
    if undone is None:
        return standing
    undo = undos.get(undone)
    state = standing.state
    has_begun = undo is not None and undo.batch_id == batch_id and not undo.is_done
    if state is BatchState.UNKNOWN and undo is not None and has_begun:
        is_quiet = (now - undo.begun_at).total_seconds() >= STALLED_SECONDS
        state = BatchState.STALLED if is_quiet else BatchState.RUNNING
    if state is not BatchState.STALLED:
        return standing if state is standing.state else Standing(state)
    return Standing(
        state,
        f"The undo of {undone} was interrupted. To continue it, ask the operator to run `enroll"
        f" undo {shell_argument(undone)}` again; or open this upload on the page, and press “Undo"
        " …”. What is undone already is not undone twice.",
    )


def advice_on_undone(batch_id: str, undo: Undo, state: BatchState) -> str | None:
    """Return what to do about a batch that was undone, or is being undone; None if nothing."""
    if not undo.is_done:
        return (
            f"It is being undone by {undo.batch_id}. If that was interrupted, ask the operator to"
            f" run `enroll undo {shell_argument(batch_id)}` again to continue."
        )
    if state is not BatchState.STALLED:
        return None
    if batch_it_undoes(batch_id) is not None:
        return f"It was undone by {undo.batch_id} before it was complete. There is nothing to do."
    return (
        f"It was undone by {undo.batch_id} before all of its chunks had been applied. If the"
        " missing ones arrive, they are refused. There is nothing to do."
    )
