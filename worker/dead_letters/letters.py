"""Dead letters: what could not be understood or kept failing, whole, with its reason."""

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from worker.database.engine import Database, transaction
from worker.dead_letters.repository import add_dead_letters


class Form(StrEnum):
    """What a dead letter's content is."""

    MESSAGE = "message"
    """A message as it came, byte for byte."""
    CALL = "call"
    """A task with its arguments, as JSON."""
    RECORD = "record"
    """One record of a batch, as JSON; the others were applied."""


class Reason(StrEnum):
    """Why it is one."""

    MALFORMED = "malformed"
    INVALID_CHUNK = "invalid_chunk"
    CONFLICT = "conflict"
    """Another chunk was applied under its batch and number."""
    NOT_PROCESSED = "not_processed"
    """It killed its worker, or failed with an unexpected error, each time it was tried."""


def dead_letter(
    form: Form,
    content: bytes,
    reason: Reason,
    detail: str,
    *,
    task: str | None = None,
    request_id: str | None = None,
    batch_id: str | None = None,
) -> dict[str, Any]:
    """A row of `dead_letters`."""
    now = datetime.now(UTC)
    return {
        "fingerprint": hashlib.sha256(form.encode() + b":" + content).hexdigest(),
        "form": form.value,
        "reason": reason.value,
        "detail": detail.replace("\0", "\\0"),
        "task": None if task is None else str(task)[:255],
        "request_id": request_id,
        "batch_id": batch_id,
        "content": content,
        "deliveries": 1,
        "first_at": now,
        "last_at": now,
    }


def keep(database: Database, *letters: dict[str, Any]) -> None:
    """Store dead letters. Raises DBAPIError."""
    transaction(database, lambda connection: add_dead_letters(connection, letters))
