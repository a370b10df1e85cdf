"""What becomes of a message that was tried too often, and of a dead letter that is tried again."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from producer.contract.chunks import KIND_MODELS
from producer.contract.explain import explain
from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Code, Kind
from worker import batches
from worker.batches import Applied, ChunkOutcome
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import Form, Reason, dead_letter
from worker.dead_letters.repository import add_dead_letters, delete_dead_letter, find_dead_letters
from worker.envelope import Unacceptable, batch_of, read
from worker.models import Course, Student
from worker.poison import find_poison, try_alone
from worker.repository import delete_result, find_results, upsert_roster
from worker.service import Asked, Decisions, decide, not_processed, read_request

_KINDS = {task: kind for kind, task in KIND_TASKS.items()}


def call_letter(
    task: str,
    task_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    reason: Reason,
    why: str,
) -> dict[str, Any]:
    """The dead letter of a whole task."""
    content = json.dumps({"task": task, "task_id": task_id, "args": args, "kwargs": kwargs})
    batch_id = batch_of(args[0]) if args else None
    return dead_letter(Form.CALL, content.encode(), reason, why, task=task, batch_id=batch_id)


def isolate_chunk(database: Database, kind: Kind, payload: object) -> Applied | str:
    """Apply a chunk without the records that are poison; they become dead letters.

    Returns what happened if not even reading it goes well. Raises TrialInterrupted, DBAPIError.
    """
    happened = try_alone(database, lambda _: batches.read_chunk(kind, payload))
    if happened is not None:
        return happened
    chunk, _ = batches.read_chunk(kind, payload)
    poison = find_poison(
        database,
        chunk.records_in_order,
        lambda connection, records: batches.rehearse(connection, kind, chunk, records),
    )
    return batches.apply_chunk(database, kind, payload, poison)


def isolate_request(database: Database, asked: Asked) -> Decisions:
    """Decide a request, or make it a dead letter and refuse it, if not even a trial goes well.

    Raises TrialInterrupted, DBAPIError.
    """
    happened = try_alone(database, lambda connection: decide(connection, [asked]))
    if happened is None:
        return transaction(database, lambda connection: decide(connection, [asked]))
    return give_up_request(database, asked, happened)


def give_up_request(database: Database, asked: Asked, happened: str) -> Decisions:
    """Make a request a dead letter and refuse it; or give the outcome that it has already."""
    letter = dead_letter(
        Form.RECORD,
        json.dumps(asked.record, default=repr).encode(),
        Reason.NOT_PROCESSED,
        happened,
        task=TaskName.ENROLL,
        request_id=asked.request_id,
    )
    refused = asked._replace(problems=(not_processed(happened),))

    def give_up(connection: Connection) -> Decisions:
        if not find_results(connection, [asked.request_id]):
            add_dead_letters(connection, [letter])
        return decide(connection, [refused])

    return transaction(database, give_up)


class CannotRetry(Exception):
    """A dead letter stays one; the text says why."""


def retry(database: Database, letter_id: int) -> str:
    """Do what a dead letter asked for, and remove it, in one transaction; returns its outcome.

    Of two at once the second is told that it is gone. Raises CannotRetry, TrialInterrupted,
    DBAPIError.
    """
    work = _work_of(_letter(database, letter_id))

    def once(connection: Connection) -> str:
        # First of all: whoever tries the same letter meanwhile waits here.
        if not delete_dead_letter(connection, letter_id):
            raise _gone(letter_id)
        return work(connection)

    happened = try_alone(database, once)
    if happened is not None:
        _letter(database, letter_id)
        raise CannotRetry(f"it fails again: {happened.strip().splitlines()[-1]}")
    return transaction(database, once)


def _letter(database: Database, letter_id: int) -> Any:
    with database.reading() as connection:
        found = find_dead_letters(connection, only=letter_id)
    if not found:
        raise _gone(letter_id)
    return found[0]


def _gone(letter_id: int) -> CannotRetry:
    return CannotRetry(f"there is no dead letter {letter_id}; it was retried, discarded or pruned")


def _work_of(letter: Any) -> Callable[[Connection], str]:
    match letter.form:
        case Form.RECORD:
            record = json.loads(letter.content)
            return lambda connection: _retry_record(connection, letter, record)
        case Form.CALL:
            content = json.loads(letter.content)
            task, task_id, args, kwargs = (
                content[name] for name in ("task", "task_id", "args", "kwargs")
            )
        case Form.MESSAGE:
            try:
                task, task_id, args, kwargs = read(
                    letter.content, [name.value for name in TaskName]
                )
            except Unacceptable as error:
                raise CannotRetry(f"it still cannot be understood: {error}") from error
        case _:
            raise CannotRetry(f"its form {letter.form!r} is a newer version's; upgrade first")
    if task == TaskName.ENROLL:
        asked = read_request(task_id, args, kwargs)
        return lambda connection: _retried(connection, asked, None)
    if task not in _KINDS:
        raise CannotRetry("a lookup is not tried again; discard it")
    return lambda connection: _retry_chunk(connection, _KINDS[TaskName(task)], args)


def _retry_record(connection: Connection, letter: Any, record: Any) -> str:
    kind = _KINDS.get(letter.task)
    if kind in (None, Kind.ENROLLMENTS):
        asked = read_request(letter.request_id, [record], {})
        own_id = kind is None or (
            asked.request is not None and asked.request.request_id is not None
        )
        asked = asked._replace(request_id=letter.request_id, own_id=own_id)
        return _retried(connection, asked, letter.batch_id)
    model = Student if kind is Kind.STUDENTS else Course
    try:
        given = KIND_MODELS[kind].model_validate(record).model_dump(exclude_none=True)
    except ValidationError as error:
        raise CannotRetry(explain(error)[0].message) from error
    upsert_roster(connection, model, [given])
    return "written"


def _retried(connection: Connection, asked: Asked, batch_id: str | None) -> str:
    for result in find_results(connection, [asked.request_id]):
        # What it got when it became a dead letter was no decision.
        if [error["code"] for error in result.errors] == [Code.NOT_PROCESSED]:
            delete_result(connection, asked.request_id)
    (outcome,) = decide(connection, [asked], batch_id=batch_id).answers
    return "; ".join([outcome.status, *(error.message for error in outcome.errors)])


def _retry_chunk(connection: Connection, kind: Kind, args: Sequence[Any]) -> str:
    try:
        chunk, fingerprint = batches.read_chunk(kind, args[0] if len(args) == 1 else None)
    except ValidationError as error:
        raise CannotRetry(explain(error)[0].message) from error
    outcome = batches.apply_to(connection, kind, chunk, fingerprint, {}).outcome
    if outcome is ChunkOutcome.CONFLICT:
        raise CannotRetry("another chunk was applied under its batch and number; discard it")
    return outcome.value
