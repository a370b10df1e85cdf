"""Find out from a worker's answer whether a batch can be undone."""

from typing import Final

from producer.contract.printable import shell_argument
from producer.contract.undos import BatchUndo, UndoState
from producer.errors import UndoRefused
from producer.fields import UNDO_PREFIX

UNDO_HINT: Final = (
    "The batch may still be undone within ten minutes; look up the batch whose id is undo: and the"
    " id of this one. It does no harm to undo the batch again. Check that a worker is running and"
    " serves the queue decisions."
)
"""What to do if no worker answered about an undo."""

PREVIEW_HINT: Final = (
    "Nothing was undone. Check that a worker is running and serves the queue decisions."
)
"""What to do if no worker answered about the dry run of an undo."""


def unknown_undo(batch_id: str) -> str | None:
    """Say what to do about an unknown batch with the id of an undo; None for any other batch."""
    if not batch_id.startswith(UNDO_PREFIX):
        return None
    undone = batch_id.removeprefix(UNDO_PREFIX)
    return (
        f"The batch {undone} was not undone, or its undo has not begun yet. Check the id. To undo"
        f" {undone}, the operator runs `enroll undo {shell_argument(undone)}`."
    )


def accepted(undo: BatchUndo) -> BatchUndo:
    """Return the state of an undo that a worker has accepted. Raises UndoRefused."""
    if undo.state in (UndoState.UNKNOWN, UndoState.REFUSED):
        message = undo.advice or f"The batch {undo.batch_id} cannot be undone."
        raise UndoRefused(message, is_unknown=undo.state is UndoState.UNKNOWN)
    return undo
