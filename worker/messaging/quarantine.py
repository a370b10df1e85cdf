"""Keep messages that cannot be understood as dead letters, with what they say of themselves."""

import json
from contextlib import suppress
from typing import Any, NamedTuple

from producer.contract.routing import TASK_QUEUES, Queue
from producer.schemas import MAX_MESSAGE
from worker.batches.apply import batch_of
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.enrollment.rules import given_id, readable_id
from worker.messaging.envelope import MalformedMessage, decoded_body
from worker.models import LetterForm, LetterReason

MAX_READ = 4 * MAX_MESSAGE
"""Bytes of a message that is too large, up to which its names are still looked for."""


class MessageIds(NamedTuple):
    """What a message says of itself that may be wrong elsewhere; None where it says nothing."""

    task: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    batch_id: str | None = None


def salvage_ids(raw: bytes) -> MessageIds:
    """What can be read of a message that cannot be understood, so that its sender is told."""
    if len(raw) > MAX_READ:
        return MessageIds()
    try:
        envelope = json.loads(raw)
        headers = envelope["headers"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return MessageIds()
    given = headers if isinstance(headers, dict) else {}
    task = given["task"] if given.get("task") in list(TASK_QUEUES) else None
    task_id = readable_id(given.get("id"))
    first: Any = None
    with suppress(
        MalformedMessage, ValueError, LookupError, TypeError, AttributeError, RecursionError
    ):
        first = json.loads(decoded_body({"properties": {}, **envelope}))[0][0]
    queue = None if task is None else TASK_QUEUES[task]
    if queue is Queue.BATCHES:
        return MessageIds(task, task_id, batch_id=batch_of(first))
    # A task that there is not may well have been meant to be the one for requests.
    return MessageIds(task, task_id, None if queue is Queue.LOOKUPS else given_id(first) or task_id)


def keep_message(database: Database, raw: bytes, queue: str, reason: str) -> MessageIds:
    """Store a message that cannot be understood; returns what it says of itself.

    Raises DBAPIError.
    """
    names = salvage_ids(raw)
    letter = dead_letter(
        LetterForm.MESSAGE,
        raw,
        LetterReason.MALFORMED,
        f"queue {queue}: {reason}",
        task=names.task,
        request_id=names.request_id,
        batch_id=names.batch_id,
    )
    keep(database, letter)
    return names
