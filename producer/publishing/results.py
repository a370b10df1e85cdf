"""Read what Celery's result backend stores about a task, and what a worker answered."""

import json
from typing import Any

from celery import states
from pydantic import TypeAdapter, ValidationError

from producer.contract.lookups import RESULT_TYPES
from producer.contract.routing import TaskName
from producer.errors import AnswerNotUnderstood, LookupFailed, NoWorkerAnswered

Stored = dict[str, Any] | LookupFailed
"""The content of the result key of a task that has ended, or the reason why it cannot be read."""

_RESULT_ADAPTERS: dict[TaskName, TypeAdapter[Any]] = {
    task: TypeAdapter(type_) for task, type_ in RESULT_TYPES.items()
}


def parse_stored(key: str, text: str | bytes) -> Stored | None:
    """Return what is stored in a result key; None if the task has not ended."""
    try:
        stored = json.loads(text)
        return stored if stored["status"] in states.READY_STATES else None
    except (ValueError, LookupError, TypeError) as error:
        return LookupFailed(
            f"The result in the Redis key {key} cannot be read: {error!r}. Check that no other"
            " application writes to the same Redis database."
        )


def not_answered(seconds: float, hint: str) -> NoWorkerAnswered:
    """Return the error of a wait whose time is up; its message ends with `hint`."""
    return NoWorkerAnswered(f"No worker answered in {round(seconds, 2):g} s. {hint}")


def outcome_of(stored: Stored, seconds: float, hint: str) -> Any:
    """Return the result of a task that has ended.

    Raises LookupFailed, and NoWorkerAnswered if the task expired after waiting for `seconds`; its
    message ends with `hint`.
    """
    if isinstance(stored, LookupFailed):
        raise stored
    if stored["status"] == states.REVOKED:
        raise NoWorkerAnswered(
            f"No worker started on the lookup within {round(seconds, 2):g} s. {hint}"
        )
    if stored["status"] != states.SUCCESS:
        reason = (stored.get("result") or {}).get("exc_message", stored["status"])
        text = " ".join(map(str, reason)) if isinstance(reason, list) else reason
        raise LookupFailed(f"The worker could not answer: {text}")
    return stored.get("result")


def parse_result(task: TaskName, result: Any) -> Any:
    """Return a task's result as models of the contract, without fields that a newer worker added.

    Raises AnswerNotUnderstood.
    """
    try:
        return _RESULT_ADAPTERS[task].validate_python(result, extra="ignore")
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        field = ".".join(map(str, detail["loc"])) or "the whole answer"
        raise AnswerNotUnderstood(
            f"The worker's answer cannot be understood ({field}: {detail['msg']}, not"
            f" {ascii(detail['input'])[:60]}), because the worker has a newer version;"
            " upgrade the client."
        ) from error
