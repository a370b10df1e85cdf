"""The contract as documents for other languages, made of the models: JSON Schemas and AsyncAPI 3.0.

`docs/schemas.json` and `docs/asyncapi.json` are what `enroll schema` prints.
"""

from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from producer.contract.chunks import KIND_CHUNKS
from producer.contract.headers import MessageHeaders
from producer.contract.lookups import ANSWERS, Identifiers, Limit, Numbers, RequestIds, ResultCursor
from producer.contract.marks import SubmissionMark
from producer.contract.routing import KIND_TASKS, TASK_QUEUES, Queue, TaskName
from producer.schemas import MAX_CHUNK_BYTES, MAX_MESSAGE, Code, RequestId, StudentEnrollmentRequest

VERSION = "1.0.0"
"""Of the contract: the second number grows with each addition; nothing is ever taken away."""

Json = dict[str, Any]

_Line = Annotated[int, Field(ge=0, lt=2**63)]


class Signature(NamedTuple):
    """What a task takes; the first `required` of its positional arguments must be given."""

    about: str
    args: dict[str, Any]
    required: int
    kwargs: dict[str, Any]


SIGNATURES: dict[TaskName, Signature] = {
    TaskName.ENROLL: Signature(
        "Enroll one student in courses.", {"request": StudentEnrollmentRequest}, 1, {}
    ),
    **{
        task: Signature(
            f"Apply one chunk of a batch of {kind}.", {"chunk": KIND_CHUNKS[kind]}, 1, {}
        )
        for kind, task in KIND_TASKS.items()
    },
    TaskName.STATUS: Signature("Where requests stand.", {"request_ids": RequestIds}, 1, {}),
    TaskName.BATCH: Signature(
        "Where batches stand; without their refusals where `refusals` is false.",
        {"batch_ids": RequestIds},
        1,
        {"refusals": bool},
    ),
    TaskName.CHUNKS: Signature(
        "Which of these chunks were applied.", {"batch_id": RequestId, "numbers": Numbers}, 2, {}
    ),
    TaskName.REFUSALS: Signature(
        "Refused lines of a batch that come after a line and the id of one of its refusals.",
        {"batch_id": RequestId, "line": _Line, "after": _Line, "limit": Limit},
        1,
        {},
    ),
    TaskName.RESULTS: Signature(
        "The newest outcomes of each student, older than `before` where it is given.",
        {"students": Identifiers},
        1,
        {"limit": Limit, "before": ResultCursor | None},
    ),
    TaskName.STUDENT: Signature(
        "Students with their courses; null for one that does not exist.",
        {"students": Identifiers},
        1,
        {},
    ),
    TaskName.HEALTH: Signature("How a worker and its database are.", {}, 0, {}),
}

_READ = (MessageHeaders, SubmissionMark)
"""Models that are neither argument nor answer."""


def json_schemas() -> Json:
    """All models of the contract as one JSON Schema of draft 2020-12, below `$defs`."""
    _, definitions = _schemas("#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Enrollment worker: every message and answer that crosses the queue",
        "$defs": definitions,
    }


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document: the queues, what may be sent to them, and where answers lie."""
    of, definitions = _schemas("#/components/schemas/{model}")
    _as_draft_7(definitions)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Enrollment worker",
            "version": VERSION,
            "description": "Enrollment requests, rosters and questions, as tasks of Celery's"
            " message protocol 2. docs/integration.md tells it at length.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {
            **{queue.value: _channel(queue) for queue in Queue},
            "answers": _answers_channel(),
        },
        "operations": {task.value: _operation(task) for task in TaskName},
        "components": {
            "messages": {
                **{task.value: _message(task, of) for task in TaskName},
                **{f"{task}.answer": _answer(task, of) for task in ANSWERS},
            },
            "schemas": definitions,
        },
    }


def _schemas(template: str) -> tuple[dict[tuple[str, str], Json], Json]:
    """The schema of each argument and answer, by task and name, and what they refer to."""
    inputs: list[tuple[tuple[str, str], JsonSchemaMode, TypeAdapter[Any]]] = []
    for task, signature in SIGNATURES.items():
        for name, form in (signature.args | signature.kwargs).items():
            inputs.append(((task.value, name), "validation", TypeAdapter(form)))
        if task in ANSWERS:
            answer: TypeAdapter[Any] = TypeAdapter(ANSWERS[task])
            inputs.append(((task.value, "answer"), "serialization", answer))
    inputs += [((model.__name__, ""), "validation", TypeAdapter(model)) for model in _READ]
    of, rest = TypeAdapter.json_schemas(inputs, ref_template=template, schema_generator=_Generator)
    return {key: schema for (key, _), schema in of.items()}, rest["$defs"]


class _Generator(GenerateJsonSchema):
    """The order of fields is that of the models: what matters comes first.

    An answer may come from a newer worker: it may hold more fields, and codes that are new.
    """

    def model_schema(self, schema: Any) -> Json:
        made = super().model_schema(schema)
        if self.mode == "serialization":
            made.pop("additionalProperties", None)
        return made

    def enum_schema(self, schema: Any) -> Json:
        made = super().enum_schema(schema)
        if schema["cls"] is Code:
            made["examples"] = made.pop("enum")
        return made

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002 - pydantic's
        return value


def _as_draft_7(schema: Any) -> None:
    """AsyncAPI's own schemas know tuples in the form of draft 7 only."""
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
            "description": "Redis 7 or Valkey; a queue is a list, written with LPUSH.",
        },
        "rabbitmq": {
            "host": "localhost:5672",
            "protocol": "amqp",
            "description": "RabbitMQ with quorum queues; answers lie in Redis all the same.",
        },
    }


def _channel(queue: Queue) -> Json:
    tasks = [task for task in TaskName if TASK_QUEUES[task] is queue]
    return {
        "address": queue.value,
        "messages": {task.value: {"$ref": f"#/components/messages/{task}"} for task in tasks},
    }


def _answers_channel() -> Json:
    return {
        "address": "celery-task-meta-{task_id}",
        "title": "Answers",
        "description": "A key of Redis; its value is replaced as the task goes on, and expires.",
        "servers": [{"$ref": "#/servers/redis"}],
        "parameters": {"task_id": {"description": "The id in the headers of the message."}},
        "messages": {
            f"{task}.answer": {"$ref": f"#/components/messages/{task}.answer"} for task in ANSWERS
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
    if task in ANSWERS:
        operation["reply"] = {
            "channel": {"$ref": "#/channels/answers"},
            "messages": [{"$ref": f"#/channels/answers/messages/{task}.answer"}],
        }
    return operation


def _message(task: TaskName, of: dict[tuple[str, str], Json]) -> Json:
    """The headers and the body of a message, decoded."""
    signature = SIGNATURES[task]
    args = [_argument(task, name, of[task.value, name]) for name in signature.args]
    kwargs = {name: of[task.value, name] for name in signature.kwargs}
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
            "description": f"The body, decoded from base64. The whole message has at most"
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
                {"type": ["object", "null"], "description": "Empty, or all its values are null."},
            ],
        },
    }


def _argument(task: TaskName, name: str, schema: Json) -> Json:
    """A chunk may also come as a string; it is decoded once then, and in one go."""
    if task not in KIND_TASKS.values():
        return {"title": name, **schema} if "$ref" not in schema else schema
    text = {
        "type": "string",
        "contentMediaType": "application/json",
        "description": f"The same as JSON; our clients send at most {MAX_CHUNK_BYTES} bytes of it.",
    }
    return {"title": name, "anyOf": [schema, text]}


def _answer(task: TaskName, of: dict[tuple[str, str], Json]) -> Json:
    """What lies under the key of an answer."""
    schema = of[task.value, "answer"]
    _as_draft_7(schema)
    return {
        "name": f"{task}.answer",
        "title": f"Answer to {task}",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["status", "result", "task_id"],
            "properties": {
                "task_id": {"type": "string"},
                "status": {
                    "enum": ["SUCCESS", "FAILURE", "REVOKED"],
                    "description": "SUCCESS: there is an answer. FAILURE: the question was none."
                    " REVOKED: it expired.",
                },
                "result": {"anyOf": [schema, {"description": "Where it is no SUCCESS."}]},
            },
        },
    }
