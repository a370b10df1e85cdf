"""Store malformed messages as dead letters, with the ids that can still be read from them."""

import json
from contextlib import suppress
from typing import Any, NamedTuple

from producer.contract.routing import TASK_QUEUES, Queue
from worker.batches.apply import batch_of
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.enrollment.incoming import given_id, readable_id
from worker.messaging.envelope import MalformedMessage, decoded_body
from worker.messaging.giants import Beginning
from worker.models import LetterForm, LetterReason


class MessageIds(NamedTuple):
    """The task and ids that a malformed message names; None if it does not name one."""

    task: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    batch_id: str | None = None


def salvage_ids(raw: bytes) -> MessageIds:
    """Read the ids of a malformed message, so that its client can learn the reason."""
    if isinstance(raw, Beginning):
        return MessageIds()
    try:
        envelope = json.loads(raw)
        headers = envelope["headers"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return MessageIds()
    named = headers if isinstance(headers, dict) else {}
    task = named["task"] if named.get("task") in list(TASK_QUEUES) else None
    task_id = readable_id(named.get("id"))
    first_argument: Any = None
    with suppress(
        MalformedMessage, ValueError, LookupError, TypeError, AttributeError, RecursionError
    ):
        first_argument = json.loads(decoded_body({"properties": {}, **envelope}))[0][0]
    queue = None if task is None else TASK_QUEUES[task]
    if queue is Queue.BATCHES:
        return MessageIds(task, task_id, batch_id=batch_of(first_argument))
    # An unknown task may have been meant as a request.
    is_lookup = queue in (Queue.LOOKUPS, Queue.DECISIONS)
    return MessageIds(task, task_id, None if is_lookup else given_id(first_argument) or task_id)


def keep_message(database: Database, raw: bytes, queue: str, reason: str) -> MessageIds:
    """Store a malformed message, or its beginning, as a dead letter; return its ids.

    Raises DBAPIError.
    """
    ids = salvage_ids(raw)
    form, identity, detail = LetterForm.MESSAGE, raw, f"queue {queue}: {reason}"
    if isinstance(raw, Beginning):
        form, identity = LetterForm.BEGINNING, raw.sha256.encode()
        detail += (
            f"; only the first {len(raw)} bytes are stored; the SHA-256 of all {raw.size} is"
            f" {raw.sha256}"
        )
    letter = dead_letter(
        form,
        raw,
        LetterReason.MALFORMED,
        detail,
        identity=identity,
        task=ids.task,
        request_id=ids.request_id,
        batch_id=ids.batch_id,
    )
    keep(database, letter)
    return ids
