"""Generate documents of the contract for other languages: JSON Schemas and AsyncAPI 3.0.

Both are made from the models. `docs/schemas.json` and `docs/asyncapi.json` hold what
`enroll schema` prints.
"""

from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from producer.contract.batches import BatchCursor, BatchState
from producer.contract.chunks import KIND_CHUNKS
from producer.contract.headers import MessageHeaders
from producer.contract.keys import Keys
from producer.contract.lookups import (
    RESULT_TYPES,
    Identifiers,
    Limit,
    Numbers,
    PairCursor,
    RequestIds,
    ResultCursor,
    RollsCursor,
    StudentCursor,
    SubmitterName,
)
from producer.contract.marks import SubmissionMark
from producer.contract.plans import DecisionMessage
from producer.contract.routing import KIND_TASKS, TASK_QUEUES, Queue, TaskName
from producer.contract.searching import SearchText
from producer.fields import MAX_CHUNK_BYTES, MAX_MESSAGE, Identifier, Moment, RequestId, StoredId
from producer.schemas import Code, Kind, StudentEnrollmentRequest

VERSION = "1.0.0"
"""The version of the contract. An addition raises the second number; nothing is ever removed."""

Json = dict[str, Any]

_Line = Annotated[int, Field(ge=0, lt=2**63)]


class Signature(NamedTuple):
    """A task's arguments; callers must pass the first `required` of the positional ones."""

    about: str
    args: dict[str, Any]
    required: int
    kwargs: dict[str, Any]


SIGNATURES: dict[TaskName, Signature] = {
    TaskName.ENROLL: Signature(
        "Enroll one student in courses, or drop them.", {"request": StudentEnrollmentRequest}, 1, {}
    ),
    **{
        task: Signature(
            f"Apply one chunk of a batch of {kind}.", {"chunk": KIND_CHUNKS[kind]}, 1, {}
        )
        for kind, task in KIND_TASKS.items()
    },
    TaskName.STATUS: Signature(
        "Return the status of requests.", {"request_ids": RequestIds}, 1, {}
    ),
    TaskName.BATCH: Signature(
        "Return the status of batches, without their refusals if `refusals` is false.",
        {"batch_ids": RequestIds},
        1,
        {"refusals": bool},
    ),
    TaskName.CHUNKS: Signature(
        "Return which of these chunks have been applied.",
        {"batch_id": StoredId, "numbers": Numbers},
        2,
        {},
    ),
    TaskName.REFUSALS: Signature(
        "Return one page of a batch's refusals: those after the refusal with the line `line` and"
        " the id `after`; with `code`, only those for this cause. With `whole`, each has the record"
        " and the cells that only the first refusal of its line has otherwise.",
        {"batch_id": StoredId, "line": _Line, "after": _Line, "limit": Limit},
        1,
        {"code": Code | None, "whole": bool},
    ),
    TaskName.RESULTS: Signature(
        "Return the newest results of each student; with `before`, only older ones.",
        {"students": Identifiers},
        1,
        {"limit": Limit, "before": ResultCursor | None},
    ),
    TaskName.STUDENT: Signature(
        "Return students with their courses; null for a student that does not exist.",
        {"students": Identifiers},
        1,
        {},
    ),
    TaskName.HISTORY: Signature(
        "Return what happened to a student's enrollments, the latest moment first; with `course`,"
        " only what was changed or superseded in it; with `before`, only what counts earlier.",
        {"student": Identifier},
        1,
        {"course": Identifier | None, "limit": Limit, "before": Moment | None},
    ),
    TaskName.ROLL: Signature(
        "Return who is enrolled in a course, or was at the moment `at`, by key and only after the"
        " key `after`; null for a course that does not exist.",
        {"course": Identifier},
        1,
        {"at": Moment | None, "limit": Limit, "after": StudentCursor},
    ),
    TaskName.ROLLS: Signature(
        "Return a part of who is enrolled in these courses, by SIS ids; with `after`, the `next` of"
        " the part before, the following one. A part may be empty although others follow.",
        {"courses": Identifiers},
        1,
        {"after": RollsCursor | None},
    ),
    TaskName.FIND_STUDENTS: Signature(
        "Return the students with a SIS id or an e-mail address, or with all of its words in their"
        " names, in any case and order; the best match first.",
        {"text": SearchText},
        1,
        {"limit": Limit},
    ),
    TaskName.FIND_COURSES: Signature(
        "Return the courses with a SIS id, or with all of its words in their titles, in any case"
        " and order; the best match first.",
        {"text": SearchText},
        1,
        {"limit": Limit},
    ),
    TaskName.HEALTH: Signature("Return the health of a worker and its database.", {}, 0, {}),
    TaskName.RECENT_BATCHES: Signature(
        "Return the status of the newest batches, without their refusals; with `paged`, one page"
        " of them, which begins at `cursor`, the `next` of the page before. The other options"
        " select batches.",
        {"limit": Limit},
        0,
        {
            "paged": bool,
            "cursor": BatchCursor | None,
            "state": BatchState | None,
            "kind": Kind | None,
            "submitter": SubmitterName | None,
        },
    ),
    TaskName.PLAN: Signature(
        "Return the state and the report of a plan.", {"plan_id": RequestId}, 1, {}
    ),
    TaskName.PLANNED_DROPS: Signature(
        "Return one page of the planned drops of a plan, by the keys of student and course; with"
        " `after`, the `next` of the page before, the following one.",
        {"plan_id": RequestId},
        1,
        {"after": PairCursor | None, "limit": Limit},
    ),
    TaskName.DECIDE: Signature(
        "Approve or discard a plan that is held, if its digest is still the one that was shown.",
        {"decision": DecisionMessage},
        1,
        {},
    ),
    TaskName.REHEARSE_UNDO: Signature(
        "Return what the undo of a batch would change.", {"batch_id": StoredId}, 1, {}
    ),
    TaskName.UNDO: Signature(
        "Undo a batch; the answer comes within seconds.", {"batch_id": StoredId}, 1, {}
    ),
}

_OTHER_MODELS = (MessageHeaders, SubmissionMark)
"""Models that are neither an argument nor a result of a task."""


def json_schemas() -> Json:
    """Return all models of the contract as one JSON Schema (draft 2020-12), below `$defs`."""
    _, definitions = _schemas("#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Enrollment worker: every message and result that crosses the queue",
        "$defs": definitions,
    }


def asyncapi() -> Json:
    """Return the AsyncAPI 3.0 document: queues, messages, and result keys."""
    schemas, definitions = _schemas("#/components/schemas/{model}")
    _as_draft_7(definitions)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Enrollment worker",
            "version": VERSION,
            "description": "Enrollment requests, rosters and lookups, sent as tasks in Celery's"
            " message protocol 2. The details are in docs/integration.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {
            **{queue.value: _channel(queue) for queue in Queue},
            "answers": _results_channel(),
        },
        "operations": {task.value: _operation(task) for task in TaskName},
        "components": {
            "messages": {
                **{task.value: _message(task, schemas) for task in TaskName},
                **{f"{task}.answer": _result(task, schemas) for task in RESULT_TYPES},
            },
            "schemas": definitions,
        },
    }


def _schemas(template: str) -> tuple[dict[tuple[str, str], Json], Json]:
    """Return the schemas of all arguments and results, by task and name, and the definitions.

    `template` is the form of their references to the definitions.
    """
    inputs: list[tuple[tuple[str, str], JsonSchemaMode, TypeAdapter[Any]]] = []
    for task, signature in SIGNATURES.items():
        for name, type_ in (signature.args | signature.kwargs).items():
            inputs.append(((task.value, name), "validation", TypeAdapter(type_)))
        if task in RESULT_TYPES:
            result: TypeAdapter[Any] = TypeAdapter(RESULT_TYPES[task])
            inputs.append(((task.value, "result"), "serialization", result))
    inputs += [((model.__name__, ""), "validation", TypeAdapter(model)) for model in _OTHER_MODELS]
    schemas, rest = TypeAdapter.json_schemas(
        inputs, ref_template=template, schema_generator=_Generator
    )
    return {key: schema for (key, _), schema in schemas.items()}, rest["$defs"]


class _Generator(GenerateJsonSchema):
    """Generates schemas whose fields stay in the order of the models: the important ones first.

    A result may come from a newer worker, so its schema allows unknown fields and codes.
    """

    def model_schema(self, schema: Any) -> Json:
        generated = super().model_schema(schema)
        if self.mode == "serialization":
            generated.pop("additionalProperties", None)
        return generated

    def enum_schema(self, schema: Any) -> Json:
        generated = super().enum_schema(schema)
        if schema["cls"] is Code:
            generated["examples"] = generated.pop("enum")
        return generated

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002 - pydantic's
        return value


def _as_draft_7(schema: Any) -> None:
    """Rewrite tuples in place in the form of draft 7, the only one that AsyncAPI understands."""
    if isinstance(schema, dict):
        if "prefixItems" in schema:
            schema["items"] = schema.pop("prefixItems")
        for value in schema.values():
            _as_draft_7(value)
    elif isinstance(schema, list):
        for value in schema:
            _as_draft_7(value)


def _servers() -> Json:
    return {
        "redis": {
            "host": "localhost:6379",
            "protocol": "redis",
            "description": "Redis 7 or Valkey; each queue is a list, and LPUSH adds a message."
            " The key prefix of a deployment, if it has one, stands before each address.",
        },
        "rabbitmq": {
            "host": "localhost:5672",
            "protocol": "amqp",
            "description": "RabbitMQ with quorum queues; result keys are still in Redis.",
        },
    }


def _channel(queue: Queue) -> Json:
    tasks = [task for task in TaskName if TASK_QUEUES[task] is queue]
    return {
        "address": Keys().queue(queue),
        "messages": {task.value: {"$ref": f"#/components/messages/{task}"} for task in tasks},
    }


def _results_channel() -> Json:
    return {
        "address": Keys().result("{task_id}"),
        "title": "Results",
        "description": "A Redis key for each task. It appears when the task has ended, and expires"
        " after the worker's ENROLL_RESULT_TTL (one day by default); the answer to a lookup or a"
        " decision expires after a minute.",
        "servers": [{"$ref": "#/servers/redis"}],
        "parameters": {"task_id": {"description": "The id in the headers of the message."}},
        "messages": {
            f"{task}.answer": {"$ref": f"#/components/messages/{task}.answer"}
            for task in RESULT_TYPES
        },
    }


def _operation(task: TaskName) -> Json:
    channel = TASK_QUEUES[task].value
    operation = {
        "action": "receive",
        "summary": SIGNATURES[task].about,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{task}"}],
    }
    if task in RESULT_TYPES:
        operation["reply"] = {
            "channel": {"$ref": "#/channels/answers"},
            "messages": [{"$ref": f"#/channels/answers/messages/{task}.answer"}],
        }
    return operation


def _message(task: TaskName, schemas: dict[tuple[str, str], Json]) -> Json:
    """Describe the headers and the decoded body of a task's message."""
    signature = SIGNATURES[task]
    args = [_argument(task, name, schemas[task.value, name]) for name in signature.args]
    kwargs = {name: schemas[task.value, name] for name in signature.kwargs}
    for schema in (*args, *kwargs.values()):
        _as_draft_7(schema)
    return {
        "name": task.value,
        "title": task.value,
        "summary": signature.about,
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/MessageHeaders"},
                {"type": "object", "properties": {"task": {"const": task.value}}},
            ]
        },
        "payload": {
            "title": "[args, kwargs, embed]",
            "description": "The body, decoded from base64. The whole message may have at most"
            f" {MAX_MESSAGE} bytes.",
            "type": "array",
            "minItems": 3,
            "maxItems": 3,
            "items": [
                {
                    "type": "array",
                    "minItems": signature.required,
                    "maxItems": len(args),
                    **({"items": args} if args else {}),
                },
                {"type": "object", "properties": kwargs, "additionalProperties": False},
                {"type": ["object", "null"], "description": "Empty, or every value is null."},
            ],
        },
    }


def _argument(task: TaskName, name: str, schema: Json) -> Json:
    """Describe one argument; a chunk may also be a string that holds it as JSON."""
    if task not in KIND_TASKS.values():
        return {"title": name, **schema} if "$ref" not in schema else schema
    text = {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "The same object as JSON text; our own clients send at most"
        f" {MAX_CHUNK_BYTES} bytes.",
    }
    return {"title": name, "anyOf": [schema, text]}


def _result(task: TaskName, schemas: dict[tuple[str, str], Json]) -> Json:
    """Describe the value of the Redis key that holds a task's result."""
    schema = schemas[task.value, "result"]
    _as_draft_7(schema)
    return {
        "name": f"{task}.answer",
        "title": f"Result of {task}",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["status", "result", "task_id"],
            "properties": {
                "task_id": {"type": "string"},
                "status": {
                    "enum": ["SUCCESS", "FAILURE", "REVOKED"],
                    "description": "SUCCESS: `result` holds the result. FAILURE: the worker could"
                    " not process the message. REVOKED: the lookup expired.",
                },
                "result": {
                    "anyOf": [schema, {"description": "The error, if the status is not SUCCESS."}]
                },
            },
        },
    }
