"""Messages that no client of ours publishes, but that other systems might push into a queue."""

import base64
import json
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from producer.contract.routing import TaskName

GOOD_REQUEST = {"student_id": "S1", "course_ids": ["C1"]}


def message(body: Any = None, **changes: Any) -> dict[str, Any]:
    """Return a good message with changes.

    `headers__x=1` sets a header, `headers__x=...` removes it, `x` changes a field of the message.
    """
    body = [[GOOD_REQUEST], {}, {}] if body is None else body
    made: dict[str, Any] = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TaskName.ENROLL.value,
            "id": f"malformed-{random.getrandbits(64)}",
            "argsrepr": "()",
            "kwargsrepr": "{}",
        },
        "properties": {
            "correlation_id": "x",
            "delivery_info": {"exchange": "", "routing_key": "enrollments"},
            "delivery_tag": "x",
            "body_encoding": "base64",
        },
    }
    for name, value in changes.items():
        part = made
        *path, last = name.split("__")
        for step in path:
            part = part[step]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    return made


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@cache
def shapes() -> dict[str, bytes]:
    """Malformed messages, by what is wrong with them."""
    objects: dict[str, Any] = {
        "a list": [1, 2],
        "null": None,
        "a number": 17,
        "a string": "enroll me",
        "an empty object": {},
        "no body": message() | {"body": None},
        "a body that is an object": message() | {"body": {"args": []}},
        "a body that is a number": message() | {"body": 5},
        "a body that is not base64": message() | {"body": "*** no base64 ***"},
        "a body of another encoding": message(properties__body_encoding="rot13"),
        "a body that is not JSON": message() | {"body": _text("{no json")},
        "a body that is not UTF-8": message() | {"body": base64.b64encode(b"\xff\xfe").decode()},
        "an empty body": message() | {"body": ""},
        "a body that is null": message() | {"body": _text("null")},
        "a body that is an integer": message() | {"body": _text("7")},
        "a body of two": message([[GOOD_REQUEST], {}]),
        "a body of four": message([[GOOD_REQUEST], {}, {}, {}]),
        "a body without args": message({"kwargs": {}}),
        "args that are an object": message([{"a": 1}, {}, {}]),
        "kwargs that are a list": message([[GOOD_REQUEST], [], {}]),
        "a body nested deeply": message() | {"body": _text("[" * 100_000 + "]" * 100_000)},
        "an integer of 5,000 digits": message() | {"body": _text("[[" + "9" * 5000 + "],{},{}]")},
        "callbacks": message([[GOOD_REQUEST], {}, {"callbacks": [{"task": "x"}]}]),
        "errbacks": message([[GOOD_REQUEST], {}, {"errbacks": [{"task": "x"}]}]),
        "a chain": message([[GOOD_REQUEST], {}, {"chain": [{"task": "x"}]}]),
        "a chord": message([[GOOD_REQUEST], {}, {"chord": {"task": "x"}}]),
        "no headers": message(headers=...),
        "headers that are null": message(headers=None),
        "headers that are a list": message(headers=["task"]),
        "headers that are a string": message(headers="task"),
        "no id": message(headers__id=...),
        "an id that is null": message(headers__id=None),
        "an id that is a number": message(headers__id=5),
        "an id that is an object": message(headers__id={"a": 1}),
        "an empty id": message(headers__id=""),
        "an id with NUL": message(headers__id="a\0b"),
        "an id that is too long": message(headers__id="i" * 1000),
        "no task": message(headers__task=...),
        "a task that is a list": message(headers__task=["enrollment.enroll"]),
        "an unknown task": message(headers__task="os.system"),
        "a task of Celery's own": message(headers__task="celery.backend_cleanup"),
        "an eta": message(headers__eta="2099-01-01T00:00:00+00:00"),
        "an eta that is a number": message(headers__eta=5),
        "a request that expires": message(headers__expires="2020-01-01T00:00:00+00:00"),
        "an expiry that is no time": message(headers__expires="soon"),
        "a time limit that is a word": message(headers__timelimit="abc"),
        "time limits that are words": message(headers__timelimit=["a", "b"]),
        "a time limit": message(headers__timelimit=[1, 2]),
        "retries that are a word": message(headers__retries="many"),
        "stamps": message(headers__stamps={"a": "b"}),
        "stamped headers": message(headers__stamped_headers=["a"]),
        "a compression": message(headers__compression="gzip"),
        "a group that is an object": message(headers__group={}),
        "no content type": message(**{"content-type": ...}),
        "a pickle": message(**{"content-type": "application/x-python-serialize"})
        | {"body": base64.b64encode(b"\x80\x04K\x05.").decode()},
        "a content type that is a number": message(**{"content-type": 7}),
        "trusted data": message(**{"content-type": "application/data"}),
        "an unknown content encoding": message(**{"content-encoding": "klingon"}),
        "a content encoding that is null": message(**{"content-encoding": None}),
        "properties that are a list": message(properties=[]),
        "properties that are null": message(properties=None),
        "a reply_to that is an object": message(properties__reply_to={"a": 1}),
        "message protocol 1": {
            "body": _text(
                json.dumps(
                    {"task": TaskName.ENROLL, "id": "1", "args": [GOOD_REQUEST], "kwargs": {}}
                )
            ),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {},
            "properties": {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": {}},
        },
    }
    texts = {
        "no JSON": b"not JSON",
        "nothing": b"",
        "half of a message": json.dumps(message()).encode()[:200],
        "no UTF-8": b"\xff\xfe\x00",
        "a pickle in the raw": b"\x80\x04\x95\x10\x00",
        "nested deeply": b"[" * 200_000,
        "NaN": b"NaN",
        "too large": b'{"body": "' + b"x" * 5_000_000 + b'"}',
    }
    return texts | {name: json.dumps(value).encode() for name, value in objects.items()}


def random_bytes(chance: random.Random, count: int) -> Iterator[bytes]:
    """Return random bytes, and good messages with some of their bytes changed."""
    for number in range(count):
        if number % 2:
            yield chance.randbytes(chance.randrange(1, 400))
        else:
            spoilt = bytearray(json.dumps(message()).encode())
            for _ in range(chance.randrange(1, 6)):
                spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
            yield bytes(spoilt)
