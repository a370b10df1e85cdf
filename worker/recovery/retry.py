"""Retry a dead letter: do what it asked for and remove it, in one transaction."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Connection

from producer.contract.chunks import KIND_MODELS
from producer.contract.explain import explain
from producer.contract.headers import BatchOrigin
from producer.contract.refusals import MAX_AHEAD, ahead_of_clock
from producer.contract.rosters import RosterRecord, merge, to_microseconds, values_reader
from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Code, Kind
from worker.batches.apply import ChunkOutcome, apply_to, read_chunk, text_of
from worker.data_sets.repository import find_data_set_of_batch
from worker.data_sets.values import Owner
from worker.database.engine import Database, transaction
from worker.dead_letters.repository import delete_dead_letter, find_dead_letters
from worker.enrollment.incoming import IncomingRequest, read_record, read_request
from worker.enrollment.repository import delete_result, find_results
from worker.messaging.envelope import MalformedMessage, parse_call
from worker.models import LetterForm
from worker.moments import Clock, own_clock, read_clock
from worker.plans.repository import begins_to_apply
from worker.plans.staging import Delivered, StagingConflict, stage_to
from worker.recovery.trial import run_in_child
from worker.roster.repository import ROSTER_MODELS, upsert_roster
from worker.service import add_enrollments
from worker.undo.repository import is_stopped

_KINDS = {task: kind for kind, task in KIND_TASKS.items()}


class CannotRetry(Exception):
    """A dead letter cannot be retried and stays stored. The message says why."""


def retry_letter(database: Database, letter_id: int, *, clock: Clock = own_clock) -> str:
    """Do what a dead letter asked for and remove it, in one transaction; describe the result.

    It counts at its own moment, so nothing that was requested later is undone. Raises CannotRetry
    (also in the second of two concurrent retries), TrialInterrupted, DBAPIError.
    """
    work = _work_of(_letter(database, letter_id), clock)

    def once(connection: Connection) -> str:
        # This comes first: a concurrent retry of the same letter waits here.
        if not delete_dead_letter(connection, letter_id):
            raise _gone(letter_id)
        return work(connection)

    failure = run_in_child(database, once)
    if failure is not None:
        _letter(database, letter_id)  # Raises if another retry has removed it in the meantime.
        raise CannotRetry(failure.strip().splitlines()[-1])
    return transaction(database, once)


def _letter(database: Database, letter_id: int) -> Any:
    with database.reading() as connection:
        letters = find_dead_letters(connection, only=letter_id)
    if not letters:
        raise _gone(letter_id)
    return letters[0]


def _gone(letter_id: int) -> CannotRetry:
    return CannotRetry(
        f"there is no dead letter {letter_id}; it may have been retried, discarded or pruned"
    )


def _work_of(letter: Any, clock: Clock) -> Callable[[Connection], str]:
    """Return the function that does what a dead letter asked for. Raises CannotRetry."""
    match letter.form:
        case LetterForm.RECORD:
            record = json.loads(letter.content)
            return lambda connection: _retry_record(connection, letter, record, clock)
        case LetterForm.CALL:
            content = json.loads(letter.content)
            task, task_id, args, kwargs = (
                content[name] for name in ("task", "task_id", "args", "kwargs")
            )
            origin = BatchOrigin.from_headers(content.get("headers"))
        case LetterForm.MESSAGE:
            try:
                task, task_id, args, kwargs, origin = parse_call(
                    letter.content, [name.value for name in TaskName]
                )
            except MalformedMessage as error:
                raise CannotRetry(f"it still cannot be understood: {error}") from error
        case LetterForm.BEGINNING:
            raise CannotRetry(
                "only the beginning of the message is stored; ask its client to send it again in"
                " smaller messages, then discard this letter"
            )
        case _:
            raise CannotRetry(
                f"this version does not know its form {letter.form!r}; upgrade, then retry"
            )
    moment = _moment_of(letter, clock, origin.moment)
    if task == TaskName.ENROLL:
        incoming = read_request(task_id, args, kwargs)._replace(moment=moment, is_dated=True)
        return lambda connection: _retry_request(connection, incoming, None, clock)
    if task not in _KINDS:
        raise CannotRetry("a lookup or a decision cannot be retried; discard it")
    dated = origin._replace(moment=moment)
    return lambda connection: _retry_chunk(connection, _KINDS[TaskName(task)], args, dated, clock)


def _moment_of(letter: Any, clock: Clock, sent: datetime | None = None) -> datetime:
    """Return when a letter counts; without a moment of its own, from its first arrival on.

    `sent` is the moment in the header of its message. If that lay ahead when the message came, it
    was not read from the clock. It came by the clock of a machine, which may be slow.
    """
    own: datetime = letter.moment or letter.first_at
    if sent is not None and sent <= (letter.moment or letter.first_at + _SLOW):
        own = sent
    reading = read_clock(clock)
    return own if reading.may_show(own) else reading.now


_SLOW: Final = timedelta(seconds=MAX_AHEAD)
"""By how much a machine's own clock may be slow before honest headers seem to lie ahead of it."""


def _retry_record(connection: Connection, letter: Any, record: Any, clock: Clock) -> str:
    if letter.batch_id is not None and is_stopped(connection, letter.batch_id):
        raise CannotRetry(
            f"its batch {letter.batch_id} was undone; discard the letter, and submit the record in"
            " another batch if it is to count"
        )
    kind = _KINDS.get(letter.task)
    if kind in (None, Kind.ENROLLMENTS):
        incoming = read_record(letter.request_id, record)
        has_own_id = kind is None or (
            incoming.request is not None and incoming.request.request_id is not None
        )
        incoming = incoming._replace(
            request_id=letter.request_id,
            has_own_id=has_own_id,
            moment=_moment_of(letter, clock),
            is_dated=True,
            owner=_owner_of(connection, letter.batch_id),
        )
        return _retry_request(connection, incoming, letter.batch_id, clock)
    try:
        parsed: Any = KIND_MODELS[kind].model_validate(record)
    except ValidationError as error:
        raise CannotRetry(explain(error)[0].message) from error
    if (problem := ahead_of_clock(parsed.as_of, read_clock(clock).latest)) is not None:
        raise CannotRetry(problem.message)
    sis_id, *values = values_reader(kind)(parsed)
    moment = to_microseconds(parsed.as_of or _moment_of(letter, clock))
    own = RosterRecord(sis_id, tuple(values), moment)
    written = upsert_roster(connection, ROSTER_MODELS[kind], merge([own]))
    return "superseded by a later record" if written.superseded else "written"


def _owner_of(connection: Connection, batch_id: str | None) -> Owner | None:
    """Return what owns the enrollments of a batch; None without a batch or a data set."""
    data_set = None if batch_id is None else find_data_set_of_batch(connection, batch_id)
    return None if data_set is None else Owner(data_set)


def _retry_request(
    connection: Connection, incoming: IncomingRequest, batch_id: str | None, clock: Clock
) -> str:
    for earlier in find_results(connection, [incoming.request_id]):
        # A result that only says "became a dead letter" is replaced by a real decision.
        if [error.code for error in earlier.errors] == [Code.NOT_PROCESSED]:
            delete_result(connection, incoming.request_id)
    (decision,) = add_enrollments(connection, [incoming], batch_id, clock=clock).decided
    result = decision.result
    return "; ".join([result.status, *(error.message for error in result.errors)])


def _retry_chunk(
    connection: Connection, kind: Kind, args: Sequence[Any], origin: BatchOrigin, clock: Clock
) -> str:
    try:
        chunk, fingerprint = read_chunk(kind, args[0] if len(args) == 1 else None)
    except ValidationError as error:
        raise CannotRetry(explain(error)[0].message) from error
    if chunk.plan is not None and not begins_to_apply(connection, chunk.plan.id):
        text = text_of(args[0])
        return _retry_staging(connection, Delivered(kind, chunk, fingerprint, text, origin), clock)
    outcome = apply_to(connection, kind, chunk, fingerprint, {}, origin, clock=clock).outcome
    if outcome is ChunkOutcome.CONFLICT:
        raise CannotRetry(
            "a different chunk was already applied under this batch id and number, or the batch"
            " ends before it or has another data set; submit it under another batch id, then"
            " discard this letter"
        )
    return outcome.value


def _retry_staging(connection: Connection, delivered: Delivered, clock: Clock) -> str:
    """Store a chunk for its plan, which is not being applied."""
    try:
        staging = stage_to(connection, delivered, clock=clock)
    except StagingConflict as error:
        raise CannotRetry(f"{error}; then discard this letter") from error
    return "stored for its plan" if staging.is_stored else "its plan no longer needs it"
