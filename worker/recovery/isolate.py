"""What becomes of a message that was tried too often, and of a dead letter that is tried again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from producer.contract.routing import TaskName
from producer.schemas import Kind
from worker.batches.apply import Applied, apply_chunk, batch_of, read_chunk, rehearse
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import dead_letter
from worker.dead_letters.repository import add_dead_letters
from worker.enrollment.rules import Decisions, IncomingRequest, not_processed
from worker.models import LetterForm, LetterReason
from worker.recovery.trial import find_poison, run_in_child
from worker.service import add_enrollments


def call_letter(
    task: str,
    task_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    reason: LetterReason,
    why: str,
) -> dict[str, Any]:
    """The dead letter of a whole task."""
    content = json.dumps({"task": task, "task_id": task_id, "args": args, "kwargs": kwargs})
    batch_id = batch_of(args[0]) if args else None
    return dead_letter(LetterForm.CALL, content.encode(), reason, why, task=task, batch_id=batch_id)


def isolate_chunk(database: Database, kind: Kind, payload: object) -> Applied | str:
    """Apply a chunk without the records that are poison; they become dead letters.

    Returns what happened if not even reading it goes well. Raises TrialInterrupted, DBAPIError.
    """
    happened = run_in_child(database, lambda _: read_chunk(kind, payload))
    if happened is not None:
        return happened
    chunk, _ = read_chunk(kind, payload)
    poison = find_poison(
        database,
        chunk.records_in_order,
        lambda connection, records: rehearse(connection, kind, chunk, records),
    )
    return apply_chunk(database, kind, payload, poison)


def isolate_request(database: Database, incoming: IncomingRequest) -> Decisions:
    """Decide a request, or make it a dead letter and refuse it, if not even a trial goes well.

    Raises TrialInterrupted, DBAPIError.
    """
    happened = run_in_child(database, lambda connection: add_enrollments(connection, [incoming]))
    if happened is None:
        return add_enrollments(database, [incoming])
    return give_up_request(database, incoming, happened)


def give_up_request(database: Database, incoming: IncomingRequest, happened: str) -> Decisions:
    """Make a request a dead letter and refuse it; or give the result that it has already."""
    letter = dead_letter(
        LetterForm.RECORD,
        json.dumps(incoming.record, default=repr).encode(),
        LetterReason.NOT_PROCESSED,
        happened,
        task=TaskName.ENROLL,
        request_id=incoming.request_id,
    )
    refused = incoming._replace(problems=(not_processed(happened),))

    def give_up(connection: Connection) -> Decisions:
        decisions = add_enrollments(connection, [refused])
        if decisions.decided[0].is_new:
            add_dead_letters(connection, [letter])
        return decisions

    return transaction(database, give_up)
