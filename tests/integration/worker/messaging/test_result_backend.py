"""Results are stored in Redis, and nothing waits if Redis is unavailable."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from redis import Redis
from redis.exceptions import ConnectionError  # noqa: A004

from producer.contract.routing import TASK_QUEUES, Queue, TaskName
from support.stopwatch import Stopwatch
from support.valkey import free_port
from worker.messaging.result_backend import ANSWER_SECONDS, ResultBackend


@contextmanager
def backend_of(url: str) -> Iterator[ResultBackend]:
    with Celery(set_as_current=False) as app:
        backend = ResultBackend(app=app, url=url)
        yield backend
        backend.client.close()


def store_all(backend: ResultBackend, results: list[tuple[str, Any]], forget: list[str]) -> None:
    backend.prepare_all(results, forget, before=lambda _: None)()


def test_results_are_stored_together_and_the_newest_wins(broker_url: str) -> None:
    with backend_of(broker_url) as backend, Redis.from_url(broker_url) as redis:

        def answer(task_id: str) -> Any:
            return json.loads(redis.get(f"celery-task-meta-{task_id}") or b"null")

        redis.set("a-mark", "queued")
        store_all(backend, [("a-1", {"n": 1}), ("a-2", {"n": 2})], forget=["a-mark"])
        assert [answer(i)["result"] for i in ("a-1", "a-2")] == [{"n": 1}, {"n": 2}]
        assert redis.get("a-mark") is None
        assert 0 < redis.ttl("celery-task-meta-a-1") <= backend.expires
        backend.store_result("a-1", ValueError("no"), "FAILURE", traceback="File /where/it/is.py")
        assert (answer("a-1")["status"], answer("a-1")["traceback"]) == ("FAILURE", None)
        backend.store_refusal("a-2", "it is not JSON")
        assert answer("a-2")["result"]["exc_message"] == ["the message was refused: it is not JSON"]


@pytest.mark.parametrize("task", [*TaskName, None])
@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_the_answer_to_a_lookup_expires_soon(
    broker_url: str, task: TaskName | None, state: str
) -> None:
    with backend_of(broker_url) as backend, Redis.from_url(broker_url) as redis:
        result: Any = ["x"] if state == "SUCCESS" else ValueError("no")
        request = None if task is None else Context(task=task.value, id="a-3")
        backend.store_result("a-3", result, state, request=request)
        asked = (Queue.LOOKUPS, Queue.DECISIONS)
        is_answer = task is not None and TASK_QUEUES[task] in asked
        longest = ANSWER_SECONDS if is_answer else backend.expires
        assert longest - 5 < redis.ttl("celery-task-meta-a-3") <= longest


@pytest.mark.parametrize(
    "store",
    [
        lambda backend: backend.store_result("x", {}, "SUCCESS"),
        lambda backend: store_all(backend, [("x", {})], forget=["a-mark"]),
    ],
    ids=["one", "many"],
)
def test_no_work_waits_for_an_unavailable_redis(store: Callable[[ResultBackend], None]) -> None:
    watch = Stopwatch(os.getpid())
    with backend_of(f"redis://localhost:{free_port()}/0") as backend:
        with pytest.raises(ConnectionError):
            store(backend)
        backend.store_refusal("x", "it is not JSON")  # It only logs a warning.
    assert watch.seconds() < 3
