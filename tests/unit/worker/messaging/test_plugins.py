"""Every class that is named by a string loads, and is what Celery and kombu end up using."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kombu.utils.imports import symbol_by_name

import worker
from producer.contract.routing import KIND_TASKS, TaskName
from worker.messaging import (
    chunk_grouping,
    consumer,
    grouping,
    lookups_first,
    plugins,
    result_backend,
    transport,
)

ROOT = Path(worker.__file__).parent.parent
PLUGINS = {
    plugins.TRANSPORT: transport.Transport,
    plugins.CONSUMER: consumer.ValidatingConsumer,
    plugins.REQUEST: consumer.CountedRequest,
    plugins.STRATEGY: grouping.strategy,
    plugins.CHUNK_STRATEGY: chunk_grouping.strategy,
    plugins.LOOKUP_STRATEGY: lookups_first.strategy,
    plugins.RESULT_BACKEND: result_backend.ResultBackend,
}

LOADABLE = re.compile(r"(worker|producer)(\.\w+)*:\w+")
"""A class or function of ours as Celery and kombu load it by name."""

ASK_CELERY = """
import json, sys
from worker.app import make_app
from worker.settings import load_settings

app = make_app(load_settings())
controller = app.WorkController(app=app, pool="solo", hostname="test@here")
consumer = controller.consumer
consumer.update_strategies()

def name(cls):
    return f"{cls.__module__}:{cls.__qualname__}"

def of_handler(task):
    # What a handler of messages works with stands in its closure.
    handler = consumer.strategies[task]
    inside = dict(zip(handler.__code__.co_freevars, handler.__closure__))
    request = inside["Req"].cell_contents
    takes = inside["handle"].cell_contents
    return {
        "request": name(request.__mro__[1]),
        "takes": name(type(takes.__self__)) if hasattr(takes, "__self__") else "",
    }

print(json.dumps({
    "backend": name(type(app.backend)),
    "transport": name(app.connection().get_transport_cls()),
    "consumer": name(type(consumer)),
    "tasks": {task: of_handler(task) for task in app.tasks},
}))
"""

ASK_CLIENT = """
import json, sys
from producer.publishing.connection import BrokerConnection

made = BrokerConnection(sys.argv[1], None if sys.argv[1].startswith("redis") else sys.argv[2])
cls = made._app.connection().get_transport_cls()
print(json.dumps(f"{cls.__module__}:{cls.__qualname__}"))
"""


def ask(code: str, broker_url: str = "redis://127.0.0.1:1/0") -> Any:
    """Run code in a process of its own, in which nothing can be connected to; return its answer."""
    environment = {n: value for n, value in os.environ.items() if not n.startswith("ENROLL_")}
    environment |= {
        "ENROLL_BROKER_URL": broker_url,
        "ENROLL_RESULT_BACKEND_URL": "redis://127.0.0.1:1/0",
        "ENROLL_DATABASE_URL": "sqlite:///nowhere.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, broker_url, "redis://127.0.0.1:1/0"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def celery() -> Any:
    """Return Celery's report on a worker whose broker is Redis."""
    return ask(ASK_CELERY)


def test_the_table_names_every_plugin() -> None:
    named = {value for name, value in vars(plugins).items() if name.isupper()}
    assert named == set(PLUGINS)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_loads_by_its_name(name: str) -> None:
    assert symbol_by_name(name) is PLUGINS[name]


def test_messages_are_received_by_our_transport(celery: Any) -> None:
    assert celery["transport"] == plugins.TRANSPORT


def test_messages_are_checked_by_our_consumer(celery: Any) -> None:
    assert celery["consumer"] == plugins.CONSUMER


def test_results_are_stored_by_our_backend(celery: Any) -> None:
    assert celery["backend"] == plugins.RESULT_BACKEND


def test_all_tasks_are_counted_requests_and_chunks_grouped_and_lookups_come_first(
    celery: Any,
) -> None:
    grouped = "worker.messaging.grouping:GroupingConsumer"
    chunks = "worker.messaging.chunk_grouping:ChunkGrouping"
    tasks = celery["tasks"]
    assert {name for name, of in tasks.items() if of["takes"] == grouped} == {"enrollment.enroll"}
    of_chunks = {name for name, of in tasks.items() if of["takes"] == chunks}
    assert of_chunks == {task.value for task in KIND_TASKS.values()}
    first = "worker.messaging.lookups_first:LookupsFirst"
    lookups = {name for name, of in tasks.items() if of["takes"] == first}
    changes = {TaskName.ENROLL, TaskName.UNDO, *KIND_TASKS.values()}
    assert lookups == {task.value for task in set(TaskName) - changes}
    counted = {name for name, of in tasks.items() if of["request"] == plugins.REQUEST}
    assert counted == {task.value for task in TaskName}


def test_over_rabbitmq_only_the_transport_is_kombus_own() -> None:
    found = ask(ASK_CELERY, "amqp://127.0.0.1:1//")
    assert found["transport"] == "kombu.transport.pyamqp:Transport"
    assert (found["consumer"], found["backend"]) == (plugins.CONSUMER, plugins.RESULT_BACKEND)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_client_of_redis_publishes_through_the_transport_that_its_string_names(
    scheme: str,
) -> None:
    assert ask(ASK_CLIENT, f"{scheme}://127.0.0.1:1/0") == "producer.publishing.transport:Transport"


@pytest.mark.parametrize(("scheme", "name"), [("amqp", "Transport"), ("amqps", "TLSTransport")])
def test_a_client_of_rabbitmq_publishes_through_the_transport_that_its_string_names(
    scheme: str, name: str
) -> None:
    found = ask(ASK_CLIENT, f"{scheme}://127.0.0.1:1//")
    assert found == f"producer.publishing.rabbitmq:{name}"


def loadable_strings(path: Path) -> set[str]:
    """Return the strings of a module that name a class or function of ours to load."""
    constants = [
        n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)
    ]
    return {c for c in constants if isinstance(c, str) and LOADABLE.fullmatch(c)}


def test_a_string_that_names_a_plugin_stands_in_the_table_alone() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): strings
        for package in ("worker", "producer")
        for path in (ROOT / package).rglob("*.py")
        if (strings := loadable_strings(path))
    }
    assert found == {
        "worker/messaging/plugins.py": set(PLUGINS),
        "producer/contract/own_celery.py": {"producer.contract.own_celery:GivenLoader"},
        "producer/publishing/app.py": {
            "producer.publishing.transport:Transport",
            "producer.publishing.rabbitmq:Transport",
            "producer.publishing.rabbitmq:TLSTransport",
        },
    }
