"""The one place where the worker is put together. Nothing connects here."""

import gc
import logging
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from celery import Celery, signals
from kombu.entity import Exchange, Queue
from sqlalchemy.exc import DBAPIError

from producer.contract import routing
from producer.contract.broker_url import REDIS
from producer.contract.routing import QUORUM, TASK_QUEUES
from worker import migrate
from worker.database.engine import Database, make_engine
from worker.messaging import patches, plugins
from worker.messaging.attempts import Attempts
from worker.messaging.marks import SubmissionMarks
from worker.messaging.transport import HEARTBEAT_SECONDS
from worker.monitoring import logs
from worker.monitoring.events import Events
from worker.monitoring.exporter import Exporter
from worker.monitoring.metrics import Metrics
from worker.recovery.retry_policy import RetryPolicy
from worker.settings import LogFormat, Settings
from worker.tasks.register import register
from worker.tasks.services import Services

log = logging.getLogger(__name__)

TASK_TIME_LIMIT = 120
"""Seconds after which a task is killed."""


def make_app(settings: Settings) -> Celery:
    """Make the Celery application of the worker, with its tasks and effective options."""
    app = Celery("enrollment")
    instance = uuid4().hex  # Names this worker among all others, in each of its processes.
    app.conf.update(options(settings))
    app.conf.broker_transport_options["instance"] = instance
    app.loader.override_backends = dict.fromkeys(("redis", "rediss"), plugins.RESULT_BACKEND)
    database = Database(settings.database_url.get_secret_value())
    metrics = Metrics(served=settings.metrics_port is not None)
    attempts = Attempts(_attempts_url(settings), instance, settings.max_attempts)
    services = Services(
        database=database,
        marks=SubmissionMarks(_results_url(settings)),
        attempts=attempts,
        retry_policy=RetryPolicy(attempts, settings.database_wait, metrics.database_wait.inc),
        events=Events(metrics),
        # The backend is made where it is used, once for each thread.
        store_refusal=lambda *refusal: app.backend.store_refusal(*refusal),  # noqa: PLW0108
    )
    register(app, services)
    app.conf.broker_transport_options["recovered"] = services.events.recovered

    def start(sender: Any, **_: Any) -> None:
        if sender.app is not app:
            return
        # The banner is neither a line nor JSON.
        sender.quiet = sender.quiet or settings.log_format is LogFormat.JSON
        _check_schema(database.url)
        if settings.metrics_port is not None:
            _serve_metrics(settings, instance)

    logs.configure(settings.log_format)
    signals.worker_init.connect(start, weak=False)
    signals.worker_init.connect(_collect_seldom, weak=False)
    signals.worker_process_init.connect(_collect_seldom, weak=False)
    signals.worker_process_init.connect(patches.stop_pool_processes_soon, weak=False)
    signals.worker_process_shutdown.connect(lambda **_: database.close(), weak=False)
    app.set_current()
    return app


def _serve_metrics(settings: Settings, instance: str) -> None:
    # Not `instance`, which is what Prometheus calls the target.
    about = {"version": version("enrollment-worker"), "worker": instance}
    try:
        server = Exporter(settings, about)
    except OSError as error:
        raise SystemExit(
            f"ENROLL_METRICS_PORT: nobody can listen on {settings.metrics_host} port"
            f" {settings.metrics_port} ({error}); each worker of a host needs a port of its own."
        ) from error
    signals.worker_process_init.connect(lambda **_: server.forget(), weak=False)
    signals.worker_shutdown.connect(lambda **_: server.close(), weak=False)


def _collect_seldom(**_: Any) -> None:
    """Look for cyclic garbage now and then only: a chunk is ten thousands of objects without it.

    With CPython's own thresholds a third of a worker's time goes into looking.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def _check_schema(database_url: str) -> None:
    # An engine of its own: the pool is forked after this, and must not inherit a connection.
    engine = make_engine(database_url)
    try:
        if not migrate.is_current(engine):
            raise SystemExit(
                "The database of ENROLL_DATABASE_URL lacks migrations;"
                " run `alembic upgrade head` or `python -m worker.migrate`."
            )
    except DBAPIError as error:
        log.warning("The database does not answer yet, tasks wait for it: %s", error.orig)
    finally:
        engine.dispose()


def options(settings: Settings) -> dict[str, Any]:
    """Celery's settings, each with its reason."""
    broker = settings.broker_url.get_secret_value()
    arguments = None if broker.startswith(REDIS) else QUORUM
    return {
        "broker_url": broker,
        "result_backend": _results_url(settings),
        # SQL is the record; the answer in Redis is a copy for whoever waits for it.
        "result_expires": settings.result_ttl,
        # A result is a value of the contract; pickle would run whatever a stranger sends.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Each kind of work waits in a queue of its own, so that one student never waits behind
        # a million rows; a misspelt queue is an error and not a new queue.
        "task_queues": [
            Queue(q.value, Exchange(q.value), q.value, queue_arguments=arguments)
            for q in routing.Queue
        ],
        "task_default_queue": routing.Queue.ENROLLMENTS.value,
        "task_routes": {name.value: {"queue": queue.value} for name, queue in TASK_QUEUES.items()},
        "task_create_missing_queues": False,
        # Acknowledged after the commit, and given back when the process that ran it is lost:
        # what runs twice has one effect, because the database knows it by its id.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A task that is stuck ends; its message is given back, and counted.
        "task_acks_on_timeout": False,
        "task_soft_time_limit": TASK_TIME_LIMIT - 20,
        "task_time_limit": TASK_TIME_LIMIT,
        # Hoarded messages would wait behind the hoarder's work; fetching ahead gains no speed.
        "worker_prefetch_multiplier": 1,
        # The default gives up on the broker after 100 attempts, and at once at start-up.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A full or read-only Redis makes the default worker exit.
        "broker_channel_error_retry": True,
        # Without bounds a publish or an answer waits for ever for a frozen broker.
        "broker_connection_timeout": 3,
        "broker_pool_acquire_timeout": 10,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 3,
        # Messages are taken without a gap, and checked before anything trusts them.
        "worker_consumer": plugins.CONSUMER,
        **(_over_redis() if broker.startswith(REDIS) else {}),
        # On a lost connection the running chunk is finished: killing a commit is worse.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Anyone who can publish could otherwise shut workers down; events cost 40 % of the speed.
        "worker_enable_remote_control": False,
        "worker_send_task_events": settings.task_events,
        "task_send_sent_event": False,
        # A leak ends with its process (KiB); counting tasks would restart a busy one every second.
        "worker_max_memory_per_child": 500_000,
    }


def _results_url(settings: Settings) -> str:
    # With a default worked out by its validator, it is never None.
    return (settings.result_backend_url or settings.broker_url).get_secret_value()


def _attempts_url(settings: Settings) -> str:
    """Where attempts are counted: in the Redis from which messages are taken, if it is one."""
    broker = settings.broker_url.get_secret_value()
    return broker if broker.startswith(REDIS) else _results_url(settings)


def _over_redis() -> dict[str, Any]:
    transport = {
        # The transport's hook for what it does now and then.
        "unacked_restore_interval": HEARTBEAT_SECONDS,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        # A half-open connection is noticed within this many seconds, twice.
        "health_check_interval": 10,
        # One list a queue: priorities are not used, and each step is a key more to wait on.
        "priority_steps": [0],
    }
    return {
        "broker_transport": plugins.TRANSPORT,
        "broker_transport_options": transport,
    }
