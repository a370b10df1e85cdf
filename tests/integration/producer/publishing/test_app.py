"""The client's messages are those of Celery's own `send_task`, on a real Valkey."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from redis import Redis

from producer.contract.keys import Keys
from producer.publishing.app import PublishingApp, make_app

OPTIONS: list[dict[str, Any]] = [
    {},
    {"ignore_result": True, "headers": {"submitter": "me"}, "argsrepr": "(…)"},
    {"timestamp": 5, "add_to_parent": False},
    {"expires": 60},
]


@pytest.fixture
def app(broker_url: str) -> Iterator[PublishingApp]:
    prefix = f"app-{uuid.uuid4().hex}:"
    with make_app(broker_url, Keys(prefix), over_redis=True) as made:
        yield made


def published(app: PublishingApp, broker_url: str) -> list[Any]:
    """Return the messages in the queue, the oldest first, without what differs for each."""
    key = f"{app.conf.broker_transport_options['global_keyprefix']}batches"
    with Redis.from_url(broker_url) as redis:
        messages = [json.loads(raw) for raw in reversed(redis.lrange(key, 0, -1))]
    for message in messages:
        del message["properties"]["delivery_tag"]
        message["headers"].pop("expires")
        # Celery repeats it here, where nothing reads it.
        message["properties"].pop("argsrepr", None)
    return messages


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_a_message_is_the_one_that_celery_makes(
    app: PublishingApp, broker_url: str, options: dict[str, Any]
) -> None:
    usual: dict[str, Any] = {"task_id": "id", "queue": "batches", "declare": [], **options}
    app.send_task("task", ["text"], **usual)
    Celery.send_task(app, "task", ["text"], **usual)
    ours, theirs = published(app, broker_url)
    assert ours == theirs


def test_tracing_can_add_headers(app: PublishingApp, broker_url: str) -> None:
    def trace(headers: Any, **_: Any) -> None:
        headers["traceparent"] = "here"

    signals.before_task_publish.connect(trace)
    try:
        app.send_task("task", ["text"], task_id="id", queue="batches", declare=[])
    finally:
        signals.before_task_publish.disconnect(trace)
    (message,) = published(app, broker_url)
    assert message["headers"]["traceparent"] == "here"


def test_a_message_of_a_task_names_it_as_its_parent(app: PublishingApp, broker_url: str) -> None:
    def outer() -> None:
        app.send_task("task", ["text"], task_id="id", queue="batches", declare=[])

    # Celery would give a shared task to the apps of other tests, too.
    app.task(outer, shared=False).apply(task_id="outer", throw=True)
    (message,) = published(app, broker_url)
    assert message["headers"]["parent_id"] == message["headers"]["root_id"] == "outer"
