"""Check that a message follows Celery's message protocol 2, in JSON, before anything trusts it.

`worker.messaging.consumer` applies these checks. Knows nothing of brokers and does not import
Celery.
"""

import base64
import binascii
import json
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from producer.contract.headers import LABELS, UNKNOWN_ORIGIN, BatchOrigin, MessageHeaders, label
from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from producer.fields import MAX_MESSAGE
from worker.messaging.giants import Beginning
from worker.plain_text import first_line, shown

Envelope = dict[str, Any]

MAX_NESTING = 50
"""The most levels of lists and objects in headers and properties. Celery sends both to a pool
process, and cannot send what is nested several hundred levels deep."""


MAX_BODY_NESTING = 200
"""The most levels of lists and objects in a body. With several hundred more, JSON can still be
read, but can no longer be written."""


class MalformedMessage(Exception):
    """A message cannot be understood. The text says where and why."""


class Call(NamedTuple):
    """What a message asks for."""

    task: str
    task_id: str
    args: list[Any]
    kwargs: dict[str, Any]
    origin: BatchOrigin = UNKNOWN_ORIGIN


def open_envelope(raw: bytes) -> Envelope:
    """Parse the envelope of a message from Redis. Raises MalformedMessage."""
    check_size(raw)
    envelope = _json(raw, "the message")
    if not isinstance(envelope, dict):
        raise MalformedMessage(
            "the message must be a JSON object with headers, properties and body"
        )
    headers, properties = envelope.get("headers"), envelope.get("properties", {})
    if not isinstance(headers, dict) or headers.get("compression") is not None:
        raise MalformedMessage(
            "headers must be an object with task and id, and without compression"
        )
    if not isinstance(properties, dict):
        raise MalformedMessage("properties must be an object")
    for name in ("correlation_id", "reply_to"):
        if not isinstance(properties.get(name), str | None):
            raise MalformedMessage(f"properties.{name} must be a string")
    envelope = {"content-encoding": "utf-8", **envelope, "properties": properties}
    decoded_body(envelope)
    return envelope


def decoded_body(envelope: Envelope) -> bytes:
    """Return the body as bytes, decoded from base64 if necessary. Raises MalformedMessage."""
    body, encoding = envelope.get("body"), envelope["properties"].get("body_encoding")
    if not isinstance(body, str):
        raise MalformedMessage("body must be a string")
    if encoding not in (None, "utf-8", "base64"):
        raise MalformedMessage(
            f"properties.body_encoding must be base64, utf-8 or absent, not {shown(encoding)}"
        )
    try:
        return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    except (ValueError, binascii.Error) as error:
        raise MalformedMessage(f"body is not valid base64: {first_line(error)}") from error


def check_size(raw: bytes | str) -> None:
    """Check the size, before anything parses the message. Raises MalformedMessage."""
    size = raw.size if isinstance(raw, Beginning) else len(raw)
    if size > MAX_MESSAGE:
        raise MalformedMessage(f"the message has {size} bytes; at most {MAX_MESSAGE} are accepted")


def check_content(content_type: object, content_encoding: object) -> None:
    """Check that the body is JSON in UTF-8; nothing else is decoded. Raises MalformedMessage."""
    if content_type != "application/json":
        raise MalformedMessage(f"content-type must be application/json, not {shown(content_type)}")
    if not isinstance(content_encoding, str) or content_encoding.lower() not in ("utf-8", "utf8"):
        raise MalformedMessage(f"content-encoding must be utf-8, not {shown(content_encoding)}")


def check_nesting(value: object, what: str, most: int = MAX_NESTING) -> None:
    """Check how deeply headers, properties or a body are nested. Raises MalformedMessage."""
    level = [value]
    for _ in range(most):
        nested = [value for value in level if isinstance(value, dict | list | tuple)]
        level = [
            child
            for value in nested
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise MalformedMessage(f"{what} must not be nested more than {most} levels deep")


def clean_labels(headers: object) -> None:
    """Replace the labels in the headers of a message by the form in which they are stored.

    So no message is refused for what a client wrote there, and a pool process gets little of it.
    """
    if isinstance(headers, dict):
        for name in LABELS:
            if name in headers:
                headers[name] = label(headers[name])


def check_headers(headers: object, tasks: Container[str]) -> MessageHeaders:
    """Parse the headers of a message for one of these tasks. Raises MalformedMessage."""
    if not isinstance(headers, Mapping):
        raise MalformedMessage("headers must be an object with task and id")
    check_nesting(headers, "headers")
    try:
        checked = MessageHeaders.model_validate(headers)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        # The error of a check of our own, without pydantic's words around it.
        reason = problem.get("ctx", {}).get("error", problem["msg"])
        reason = "is not supported" if problem["type"] == "none_required" else reason
        raise MalformedMessage(f"headers.{problem['loc'][0]}: {reason}") from error
    if checked.task not in tasks:
        raise MalformedMessage(f"there is no task {shown(checked.task)}")
    may_expire = (Queue.LOOKUPS, Queue.DECISIONS)
    if checked.expires is not None and TASK_QUEUES.get(checked.task) not in may_expire:  # type: ignore[call-overload]
        raise MalformedMessage("headers.expires: only a lookup or a decision may expire")
    return checked


def check_queue(task: str, queue: str) -> None:
    """Check that a lookup or a decision came from the queue of its own. Raises MalformedMessage.

    A submitter may have the right to publish, and none to read what others submitted or to decide.
    In the same way, the queue of decisions takes nothing but decisions.
    """
    own = TASK_QUEUES[TaskName(task)]
    if own is Queue.LOOKUPS and queue != own:
        raise MalformedMessage(f"{task} is a lookup; publish it to the queue {own}")
    if own is Queue.DECISIONS and queue != own:
        raise MalformedMessage(f"{task} is a decision; publish it to the queue {own}")
    if queue == Queue.DECISIONS and own is not Queue.DECISIONS:
        raise MalformedMessage(f"{task} is not a decision; publish it to the queue {own}")


def check_body(body: object) -> None:
    """Check the decoded body. Raises MalformedMessage."""
    match body:
        case [list(), dict(), dict() | None as embed]:
            if embed and any(embed.values()):
                names = ", ".join(shown(name) for name, value in embed.items() if value)
                raise MalformedMessage(
                    f"the body asks for {names}; callbacks, chains and the like are not supported"
                )
        case _:
            raise MalformedMessage("the body must be [args, kwargs, {}]")
    check_nesting(body, "the body", MAX_BODY_NESTING)


def parse_call(raw: bytes, tasks: Container[str]) -> Call:
    """Parse a message from Redis into what it asks for. Raises MalformedMessage."""
    envelope = open_envelope(raw)
    check_content(envelope.get("content-type"), envelope["content-encoding"])
    clean_labels(envelope.get("headers"))
    headers = check_headers(envelope.get("headers"), tasks)
    body = _json(decoded_body(envelope), "the body")
    check_body(body)
    origin = BatchOrigin(headers.file_name, headers.submitter, headers.moment)
    return Call(headers.task, headers.id, body[0], body[1], origin)


def _json(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"{what} is not JSON: {first_line(error)}") from error
