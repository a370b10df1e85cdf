"""The environment is read with errors that help, and Celery's options really take effect."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from billiard import pool
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.exceptions import QueueNotFound

from producer.contract.routing import KIND_TASKS, TASK_QUEUES, Queue, TaskName
from worker.app import make_app
from worker.messaging.celery_settings import TASK_TIME_LIMIT, celery_settings
from worker.messaging.transport import Transport
from worker.settings import (
    DatabaseSettings,
    Settings,
    SettingsError,
    load_database_url,
    load_settings,
)

GOOD = {"ENROLL_BROKER_URL": "redis://h/0", "ENROLL_DATABASE_URL": "postgresql://u@h/d"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The two variables that must be there, and no other of ours."""
    for name in [name for name in os.environ if name.startswith("ENROLL_")]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def secrets(settings: Settings) -> tuple[str, str]:
    return settings.broker_url.get_secret_value(), settings.database_url.get_secret_value()


# --- The environment ------------------------------------------------------------------------


def test_two_variables_are_enough(environment: pytest.MonkeyPatch) -> None:
    loaded = load_settings()
    assert secrets(loaded) == tuple(GOOD.values())
    assert loaded.result_backend_url == loaded.broker_url
    assert (loaded.result_ttl, loaded.database_wait) == (86_400, 60)


def test_every_variable_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_RESULT_BACKEND_URL", "rediss://other/1")
    environment.setenv("ENROLL_RESULT_TTL", "60")
    environment.setenv("ENROLL_DATABASE_WAIT", "0.5")
    loaded = load_settings()
    assert loaded.result_backend_url is not None
    assert loaded.result_backend_url.get_secret_value() == "rediss://other/1?ssl_cert_reqs=required"
    assert (loaded.result_ttl, loaded.database_wait) == (60, 0.5)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_variable_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: is not set\. \(.+\)$"):
        load_settings()


BAD = {
    "another queue": ("BROKER_URL", "kafka://u:hunter2@h", "must begin with one of redis://, "),
    "a password alone": ("BROKER_URL", "hunter2", "must begin with one of redis://, "),
    "an unquoted @": ("DATABASE_URL", "postgresql://u:hunter2@x@h/d", "%40 for @"),
    "an unquoted @ and /": ("DATABASE_URL", "postgresql://u:x@hunter2/x@h/d", "%40 for @"),
    "an unquoted @ and ?": ("DATABASE_URL", "postgresql://u:x@hunter2?x@h/d", "%40 for @"),
    "another database": ("DATABASE_URL", "mysql://u:hunter2@h/d", "must look like postgresql://"),
    "no URL": ("DATABASE_URL", "hunter2", "or sqlite:////absolute/path.db"),
    "a password apart": ("BROKER_URL", "redis://h/0?password=hunter2", "before the host"),
    "an unquoted password": ("BROKER_URL", "redis://:a?hunter2=b@h/0", "before the host, quoted"),
    "TLS by half": ("BROKER_URL", "redis://:hunter2@h?ssl_ca_certs=x", "with ssl_ options must"),
    "TLS, perhaps": ("BROKER_URL", "rediss://:hunter2@h?ssl_cert_reqs=hunter2", "one of required"),
    "RabbitMQ for answers": ("RESULT_BACKEND_URL", "amqp://u:hunter2@h", "must begin with one of"),
    "a word": ("RESULT_TTL", "hunter2", "should be a valid integer"),
    "a fraction": ("RESULT_TTL", "60.5", "should be a valid integer"),
    "too short": ("RESULT_TTL", "59", "greater than or equal to 60"),
    "a negative wait": ("DATABASE_WAIT", "-1", "greater than or equal to 0"),
    "a wait beyond the time limit": ("DATABASE_WAIT", "81", "less than or equal to 80"),
}


@pytest.mark.parametrize(("name", "value", "rule"), BAD.values(), ids=BAD)
def test_a_bad_variable_is_named_with_its_rule_and_never_with_its_value(
    environment: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    environment.setenv(f"ENROLL_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"ENROLL_{name}: ")
    assert rule in line
    assert "hunter2" not in line


def test_each_bad_variable_has_a_line(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("ENROLL_DATABASE_URL")
    environment.setenv("ENROLL_BROKER_URL", "http://h")
    environment.setenv("ENROLL_RESULT_TTL", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    named = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert named == {"ENROLL_DATABASE_URL", "ENROLL_BROKER_URL", "ENROLL_RESULT_TTL"}


def test_with_rabbitmq_the_redis_for_the_answers_must_be_named(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ENROLL_BROKER_URL", "amqp://h//")
    with pytest.raises(SettingsError, match=r"^ENROLL_RESULT_BACKEND_URL: must begin with one of"):
        load_settings()


def test_a_migration_needs_the_database_alone(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("ENROLL_BROKER_URL")
    assert load_database_url() == GOOD["ENROLL_DATABASE_URL"]


def test_settings_do_not_show_their_passwords(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_BROKER_URL", "redis://:hunter2@h/0")
    environment.setenv("ENROLL_DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(load_settings()) + repr(DatabaseSettings())
    assert all("hunter2" in url for url in secrets(load_settings()))


# --- What Celery makes of it ----------------------------------------------------------------


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
    "redis_socket_timeout": 10,
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


def test_there_are_exactly_three_queues(app: Celery) -> None:
    queues = app.amqp.queues
    assert set(queues) == {"enrollments", "batches", "lookups"} == {*Queue}
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
def test_a_task_is_acknowledged_late_and_given_back_when_its_worker_is_lost(
    app: Celery, name: TaskName
) -> None:
    task = app.tasks[name.value]
    lookup = TASK_QUEUES[name] is Queue.LOOKUPS
    assert (task.acks_late, task.serializer) == (True, "json")
    # A question that takes its worker with it is not asked again.
    assert task.reject_on_worker_lost is not lookup
    # What is stuck comes back and is counted; a fault of ours is counted by the task itself.
    assert (task.acks_on_failure, task.acks_on_timeout) == (True, False)


def test_only_chunks_have_no_answer(app: Celery) -> None:
    silent = {name for name in TaskName if app.tasks[name.value].ignore_result}
    assert silent == {*KIND_TASKS.values()}


def test_a_stuck_task_is_told_to_end_before_it_is_killed(app: Celery) -> None:
    limits = (app.conf.task_soft_time_limit, app.conf.task_time_limit)
    assert limits == (TASK_TIME_LIMIT - 20, TASK_TIME_LIMIT)
    assert limits[1] > limits[0] + 10


def test_the_longest_wait_for_the_database_ends_before_the_time_of_a_task(
    app: Celery, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ENROLL_DATABASE_WAIT", "80")  # One more is refused, see BAD.
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
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "priority_steps": [0],
    }


def test_rabbitmq_is_given_no_option_of_redis(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_BROKER_URL", "amqp://h//")
    environment.setenv("ENROLL_RESULT_BACKEND_URL", "redis://h/1")
    made = celery_settings(load_settings())
    assert (made["broker_url"], made["result_backend"]) == ("amqp://h//", "redis://h/1")
    assert not {"broker_transport", "broker_transport_options"} & set(made)
    assert made["worker_consumer"] == "worker.messaging.consumer:ValidatingConsumer"


def test_the_pool_still_has_what_we_shorten() -> None:
    """An assignment to a name that an upgrade renamed would do nothing."""
    assert pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT > 0
    assert pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL == 0.1
