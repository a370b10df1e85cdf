"""What a message must look like before anything trusts it: message protocol 2 of Celery, in JSON.

Knows no broker and no Celery.
"""

import base64
import binascii
import json
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.headers import MessageHeaders
from producer.contract.routing import TASK_QUEUES, Queue
from producer.schemas import MAX_MESSAGE, RequestId
from worker.plain_text import _shown, why

MAX_READ = 4 * MAX_MESSAGE
"""Bytes of a message that is too large, up to which its names are still looked for."""

Envelope = dict[str, Any]
_ID: TypeAdapter[str] = TypeAdapter(RequestId)


class Unacceptable(Exception):
    """A message cannot be understood; the text says where and why."""


class Call(NamedTuple):
    """What a message asks for."""

    task: str
    task_id: str
    args: list[Any]
    kwargs: dict[str, Any]


def open_envelope(raw: bytes) -> Envelope:
    """The envelope of a message as it lies in Redis. Raises Unacceptable."""
    check_size(raw)
    envelope = _json(raw, "the message")
    if not isinstance(envelope, dict):
        raise Unacceptable("the message must be a JSON object with headers, properties and body")
    headers, properties = envelope.get("headers"), envelope.get("properties", {})
    if not isinstance(headers, dict) or headers.get("compression") is not None:
        raise Unacceptable("headers must be an object with task and id, and no compression")
    if not isinstance(properties, dict):
        raise Unacceptable("properties must be an object")
    for name in ("correlation_id", "reply_to"):
        if not isinstance(properties.get(name), str | None):
            raise Unacceptable(f"properties.{name} must be a string")
    envelope = {"content-encoding": "utf-8", **envelope, "properties": properties}
    _body_of(envelope)
    return envelope


def _body_of(envelope: Envelope) -> bytes:
    body, encoding = envelope.get("body"), envelope["properties"].get("body_encoding")
    if not isinstance(body, str):
        raise Unacceptable("body must be a string")
    if encoding not in (None, "utf-8", "base64"):
        raise Unacceptable(f"properties.body_encoding must be base64 or absent, not {encoding!r}")
    try:
        return base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
    except (ValueError, binascii.Error) as error:
        raise Unacceptable(f"body cannot be decoded: {why(error)}") from error


def check_size(raw: bytes | str) -> None:
    """Before a byte of it is read. Raises Unacceptable."""
    if len(raw) > MAX_MESSAGE:
        raise Unacceptable(f"it has {len(raw)} bytes; at most {MAX_MESSAGE} are taken")


def check_content(content_type: object, content_encoding: object) -> None:
    """Only JSON is ever decoded. Raises Unacceptable."""
    if content_type != "application/json":
        raise Unacceptable(f"content-type must be application/json, not {_shown(content_type)}")
    if not isinstance(content_encoding, str) or content_encoding.lower() not in ("utf-8", "utf8"):
        raise Unacceptable(f"content-encoding must be utf-8, not {_shown(content_encoding)}")


def check_headers(headers: object, tasks: Container[str]) -> MessageHeaders:
    """The headers of a message for one of these tasks. Raises Unacceptable."""
    if not isinstance(headers, Mapping):
        raise Unacceptable("headers must be an object with task and id")
    try:
        checked = MessageHeaders.model_validate(headers)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        said = "is not taken here" if problem["type"] == "none_required" else problem["msg"]
        raise Unacceptable(f"headers.{problem['loc'][0]}: {said}") from error
    if checked.task not in tasks:
        raise Unacceptable(f"there is no task {_shown(checked.task)}")
    if checked.expires is not None and TASK_QUEUES.get(checked.task) is not Queue.LOOKUPS:  # type: ignore[call-overload]
        raise Unacceptable("headers.expires: only a lookup expires")
    return checked


def check_body(body: object) -> None:
    """The body, decoded. Raises Unacceptable."""
    match body:
        case [list(), dict(), dict() | None as embed]:
            if embed and any(embed.values()):
                asked = ", ".join(_shown(name) for name, value in embed.items() if value)
                raise Unacceptable(
                    f"the body asks for {asked}; a task here is done when it is done"
                )
        case _:
            raise Unacceptable("the body must be [args, kwargs, {}]")


def read(raw: bytes, tasks: Container[str]) -> Call:
    """What a message asks for that lay in Redis. Raises Unacceptable."""
    envelope = open_envelope(raw)
    check_content(envelope.get("content-type"), envelope["content-encoding"])
    headers = check_headers(envelope.get("headers"), tasks)
    body = _json(_body_of(envelope), "the body")
    check_body(body)
    return Call(headers.task, headers.id, body[0], body[1])


class Names(NamedTuple):
    """What a message says of itself that may be wrong elsewhere; None where it says nothing."""

    task: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    batch_id: str | None = None


def names_in(raw: bytes) -> Names:
    """What can be read of a message that cannot be understood, so that its sender is told."""
    if len(raw) > MAX_READ:
        return Names()
    try:
        envelope = json.loads(raw)
        headers = envelope["headers"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return Names()
    given = headers if isinstance(headers, dict) else {}
    task = given["task"] if given.get("task") in list(TASK_QUEUES) else None
    task_id = _readable(given.get("id"))
    first: Any = None
    with suppress(Unacceptable, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        first = json.loads(_body_of({"properties": {}, **envelope}))[0][0]
    queue = None if task is None else TASK_QUEUES[task]
    if queue is Queue.BATCHES:
        return Names(task, task_id, batch_id=batch_of(first))
    # A task that there is not may well have been meant to be the one for requests.
    return Names(task, task_id, None if queue is Queue.LOOKUPS else given_id(first) or task_id)


def given_id(record: Any) -> str | None:
    """The id that a request has of its own; it may break the contract elsewhere."""
    return _readable(record.get("request_id")) if isinstance(record, dict) else None


def batch_of(chunk: Any) -> str | None:
    """The batch of a chunk that may break the contract elsewhere."""
    try:
        return _readable((json.loads(chunk) if isinstance(chunk, str) else chunk)["batch_id"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None


def _readable(value: object) -> str | None:
    try:
        return _ID.validate_python(value)
    except ValidationError:
        return None


def _json(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unacceptable(f"{what} is not JSON: {why(error)}") from error
