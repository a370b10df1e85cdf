"""Isolate what fails in a message that was tried too often, and make dead letters of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.contract.headers import UNKNOWN_ORIGIN, BatchOrigin
from producer.contract.routing import TaskName
from producer.schemas import Kind
from worker.batches.apply import Applied, apply_chunk, batch_of, read_chunk, rehearse
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import dead_letter
from worker.dead_letters.repository import add_dead_letters
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.problems import not_processed
from worker.enrollment.rules import Decisions
from worker.models import LetterForm, LetterReason
from worker.moments import Clock, own_clock
from worker.recovery.trial import find_poison, run_in_child
from worker.service import add_enrollments


def call_letter(
    task: str,
    task_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    reason: LetterReason,
    why: str,
    origin: BatchOrigin = UNKNOWN_ORIGIN,
) -> dict[str, Any]:
    """Return the dead letter for a whole task with its arguments."""
    call: dict[str, Any] = {"task": task, "task_id": task_id, "args": args, "kwargs": kwargs}
    if labels := origin.labels():
        call["headers"] = labels
    content = json.dumps(call)
    # The moment is not part of it: the same call is the same letter, whenever it was sent.
    return dead_letter(
        LetterForm.CALL,
        content.encode(),
        reason,
        why,
        task=task,
        batch_id=batch_of(args[0]) if args else None,
        moment=origin.moment,
    )


def isolate_chunk(
    database: Database,
    kind: Kind,
    payload: object,
    origin: BatchOrigin = UNKNOWN_ORIGIN,
    *,
    store: Callable[[Chunk, int], Applied] | None = None,
    clock: Clock = own_clock,
) -> Applied | str:
    """Apply a chunk without its poison records, which become dead letters.

    A chunk that carries a plan is passed with its fingerprint to `store` instead, if that is given:
    its records are not looked at before the plan is made. Returns a description of the failure if
    the chunk cannot even be read. Raises TrialInterrupted, DBAPIError.
    """
    failure = run_in_child(database, lambda _: read_chunk(kind, payload))
    if failure is not None:
        return failure
    chunk, fingerprint = read_chunk(kind, payload)
    if store is not None and chunk.plan is not None:
        return store(chunk, fingerprint)
    poison = find_poison(
        database,
        chunk.records_in_order,
        lambda connection, records: rehearse(connection, kind, chunk, records),
    )
    return apply_chunk(database, kind, payload, poison, origin, clock=clock)


def isolate_request(
    database: Database, incoming: IncomingRequest, *, clock: Clock = own_clock
) -> Decisions:
    """Try a request in a child process; decide it if that succeeds, else give it up.

    Raises TrialInterrupted, DBAPIError.
    """
    failure = run_in_child(
        database, lambda connection: add_enrollments(connection, [incoming], clock=clock)
    )
    if failure is None:
        return add_enrollments(database, [incoming], clock=clock)
    return give_up_request(database, incoming, failure, clock=clock)


def give_up_request(
    database: Database, incoming: IncomingRequest, failure: str, *, clock: Clock = own_clock
) -> Decisions:
    """Refuse a request and make it a dead letter; if it already has a result, return that."""
    refused = incoming._replace(problems=(not_processed(failure),))

    def give_up(connection: Connection) -> Decisions:
        decisions = add_enrollments(connection, [refused], clock=clock)
        (decision,) = decisions.decided
        if decision.is_new:
            letter = dead_letter(
                LetterForm.RECORD,
                json.dumps(incoming.record, default=repr).encode(),
                LetterReason.NOT_PROCESSED,
                failure,
                task=TaskName.ENROLL,
                request_id=incoming.request_id,
                moment=decision.result.moment,
            )
            add_dead_letters(connection, [letter])
        return decisions

    return transaction(database, give_up)
