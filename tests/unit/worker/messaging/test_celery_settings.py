"""Celery's options really take effect: queues, limits, acknowledgement, transport."""

from collections.abc import Iterator
from typing import Any

import pytest
from billiard import pool
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.app.utils import filter_hidden_settings
from celery.exceptions import QueueNotFound

from producer.contract.routing import KIND_TASKS, TASK_QUEUES, Queue, TaskName
from support.environment import GOOD
from worker.app import make_app
from worker.messaging.celery_settings import TASK_TIME_LIMIT, celery_settings
from worker.messaging.transport import Transport
from worker.settings import load_settings


@pytest.fixture(scope="module")
def app() -> Iterator[Celery]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**GOOD, "ENROLL_RESULT_TTL": "3600"}.items():
            environment.setenv(name, value)
        made = make_app(load_settings())
    yield made
    made.close()


EFFECTIVE = {
    "broker_url": "redis://h/0",
    "result_backend": "redis://h/0",
    "result_expires": 3600,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_default_queue": "enrollments",
    "task_create_missing_queues": False,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    "broker_connection_timeout": 3,
    "broker_pool_acquire_timeout": 10,
    "redis_socket_timeout": 5,
    "redis_socket_connect_timeout": 3,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "worker_max_memory_per_child": 500_000,
    "task_ignore_result": False,
    "task_always_eager": False,
}


@pytest.mark.parametrize(("option", "value"), EFFECTIVE.items(), ids=EFFECTIVE)
def test_an_option_takes_effect(app: Celery, option: str, value: Any) -> None:
    assert app.conf[option] == value


def test_every_option_is_one_that_celery_knows(environment: pytest.MonkeyPatch) -> None:
    known = {name for name, _ in flatten(NAMESPACES)}
    assert set(celery_settings(load_settings())) - known == set()


def test_there_are_exactly_four_queues(app: Celery) -> None:
    queues = app.amqp.queues
    assert set(queues) == {"enrollments", "batches", "lookups", "decisions"} == {*Queue}
    assert all(q.routing_key == q.exchange.name == name for name, q in queues.items())


def test_a_misspelt_queue_is_an_error(app: Celery) -> None:
    with pytest.raises(QueueNotFound):
        app.amqp.router.route({"queue": "enrolments"}, TaskName.ENROLL)


@pytest.mark.parametrize("name", TaskName)
def test_a_task_goes_to_its_queue(app: Celery, name: TaskName) -> None:
    assert app.amqp.router.route({}, name.value)["queue"].name == TASK_QUEUES[name]


def test_the_tasks_have_their_fixed_names(app: Celery) -> None:
    names = {name for name in app.tasks if not name.startswith("celery.")}
    assert names == {name.value for name in TaskName}


@pytest.mark.parametrize("name", TaskName)
def test_a_task_is_acknowledged_late_and_requeued_when_its_worker_is_lost(
    app: Celery, name: TaskName
) -> None:
    task = app.tasks[name.value]
    # A decision is answered like a lookup: its client waits, and may decide again. An undo goes on.
    is_asked = TASK_QUEUES[name] in (Queue.LOOKUPS, Queue.DECISIONS)
    lookup = is_asked and name is not TaskName.UNDO
    assert (task.acks_late, task.serializer) == (True, "json")
    # A lookup that kills its worker is not tried again.
    assert task.reject_on_worker_lost is not lookup
    # A stuck message is requeued and counted; an error of ours is counted by the task itself.
    assert (task.acks_on_failure, task.acks_on_timeout) == (True, False)


def test_only_chunks_have_no_result_in_redis(app: Celery) -> None:
    silent = {name for name in TaskName if app.tasks[name.value].ignore_result}
    assert silent == {*KIND_TASKS.values()}


def test_a_stuck_task_is_told_to_end_before_it_is_killed(app: Celery) -> None:
    limits = (app.conf.task_soft_time_limit, app.conf.task_time_limit)
    assert limits == (TASK_TIME_LIMIT - 20, TASK_TIME_LIMIT)
    assert limits[1] > limits[0] + 10


def test_the_longest_wait_for_the_database_ends_before_a_tasks_time_limit(
    app: Celery, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ENROLL_DATABASE_WAIT", "80")  # 81 is refused; see BAD.
    assert load_settings().database_wait < app.conf.task_soft_time_limit


def test_the_transport_is_given_its_celery_settings(app: Celery) -> None:
    connection = app.connection_for_read()
    assert connection.get_transport_cls() is Transport
    instance = connection.transport_options["instance"]
    assert len(instance) == 32
    recovered = connection.transport_options["recovered"]
    assert callable(recovered)
    assert connection.transport_options == {
        "instance": instance,
        "recovered": recovered,
        "unacked_restore_interval": 2,
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 4,
        "priority_steps": [0],
        "global_keyprefix": "",
    }


def test_the_prefix_of_the_keys_is_that_of_the_queue_and_of_the_results(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ENROLL_KEY_PREFIX", "staging:")
    made = celery_settings(load_settings())
    assert made["broker_transport_options"]["global_keyprefix"] == "staging:"
    assert made["result_backend_transport_options"] == {"global_keyprefix": "staging:"}


def test_a_sentinel_url_reaches_celery_only_as_an_option_that_it_never_prints(
    environment: pytest.MonkeyPatch,
) -> None:
    url = "sentinel://:hunter2@h1,h2/1?master_name=m&sentinel_password=hunter2"
    environment.setenv("ENROLL_BROKER_URL", url)
    made = celery_settings(load_settings())
    assert made["broker_url"] == made["result_backend"] == "sentinel://h1:26379/1"
    for name in ("broker_transport_options", "result_backend_transport_options"):
        assert made[name]["secret_url"] == url
    assert "hunter2" not in str(filter_hidden_settings(made))


def test_rabbitmq_is_given_no_option_of_redis(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_BROKER_URL", "amqp://h//")
    environment.setenv("ENROLL_RESULT_BACKEND_URL", "redis://h/1")
    made = celery_settings(load_settings())
    assert (made["broker_url"], made["result_backend"]) == ("amqp://h//", "redis://h/1")
    assert not {"broker_transport", "broker_transport_options"} & set(made)
    assert made["worker_consumer"] == "worker.messaging.consumer:ValidatingConsumer"


def test_the_pool_still_has_the_constants_we_patch() -> None:
    """Otherwise an upgrade could rename a constant, and our assignment would do nothing."""
    assert pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT > 0
    assert pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL == 0.1
