"""Make and store dead letters, each whole and with the reason."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from worker.database.engine import Database, transaction
from worker.dead_letters.repository import add_dead_letters
from worker.models import LetterForm, LetterReason


def dead_letter(
    form: LetterForm,
    content: bytes,
    reason: LetterReason,
    detail: str,
    *,
    identity: bytes | None = None,
    task: str | None = None,
    request_id: str | None = None,
    batch_id: str | None = None,
    moment: datetime | None = None,
) -> dict[str, Any]:
    """Return a row of `dead_letters`. `moment` is when it counts, if that is known.

    Two letters with the same form and `identity` are the same letter; by default, the content is
    the identity.
    """
    now = datetime.now(UTC)
    return {
        "fingerprint": hashlib.sha256(form.encode() + b":" + (identity or content)).hexdigest(),
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
        "moment": moment,
    }


def keep(database: Database, *letters: dict[str, Any]) -> None:
    """Store dead letters. Raises DBAPIError."""
    transaction(database, lambda connection: add_dead_letters(connection, letters))
