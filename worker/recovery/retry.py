"""Retry a dead letter: do what it asked for, and remove it, in one transaction."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from producer.contract.chunks import KIND_MODELS
from producer.contract.explain import explain
from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Code, Kind
from worker.batches.apply import ChunkOutcome, apply_to, read_chunk
from worker.database.engine import Database, transaction
from worker.dead_letters.letters import Form
from worker.dead_letters.repository import delete_dead_letter, find_dead_letters
from worker.enrollment.repository import delete_result, find_results
from worker.enrollment.rules import Asked, decide, read_request
from worker.messaging.envelope import MalformedMessage, parse_call
from worker.models import Course, Student
from worker.recovery.trial import run_in_child
from worker.repository import upsert_roster

_KINDS = {task: kind for kind, task in KIND_TASKS.items()}


class CannotRetry(Exception):
    """A dead letter stays one; the text says why."""


def retry_letter(database: Database, letter_id: int) -> str:
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

    happened = run_in_child(database, once)
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
                task, task_id, args, kwargs = parse_call(
                    letter.content, [name.value for name in TaskName]
                )
            except MalformedMessage as error:
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
        chunk, fingerprint = read_chunk(kind, args[0] if len(args) == 1 else None)
    except ValidationError as error:
        raise CannotRetry(explain(error)[0].message) from error
    outcome = apply_to(connection, kind, chunk, fingerprint, {}).outcome
    if outcome is ChunkOutcome.CONFLICT:
        raise CannotRetry("another chunk was applied under its batch and number; discard it")
    return outcome.value
