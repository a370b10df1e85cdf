"""Assemble the worker from its parts. Only this module does that, and nothing connects here."""

import gc
import logging
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from celery import Celery, signals

from producer.contract.broker_url import REDIS
from producer.contract.keys import Keys
from producer.contract.own_celery import OwnCelery
from worker.database.errors import is_answer, sentence_of
from worker.database.guard import GuardedDatabase
from worker.messaging import patches, plugins
from worker.messaging.attempts import Attempts
from worker.messaging.backlog import Backlog
from worker.messaging.cached import CachedAnswers
from worker.messaging.celery_settings import (
    attempts_url,
    celery_settings,
    queues_url,
    results_url,
)
from worker.messaging.clock import RedisClock
from worker.messaging.marks import SubmissionMarks
from worker.messaging.plans_due import PlansDue
from worker.messaging.registration import DatabaseRegister
from worker.monitoring import logs
from worker.monitoring.admission import Admission
from worker.monitoring.events import Events
from worker.monitoring.exporter import Exporter
from worker.monitoring.metrics import Metrics
from worker.monitoring.process_checks import WorkerProcesses
from worker.plans.times import Expiry
from worker.recovery.retry_policy import RetryPolicy
from worker.settings import LogFormat, Settings, find_ignored_variables
from worker.tasks.register import register
from worker.tasks.services import Services

log = logging.getLogger(__name__)

RESULT_SCHEMES = [scheme.removesuffix("://") for scheme in REDIS]


def make_app(settings: Settings) -> Celery:
    """Make the worker's Celery app, with its settings, services and tasks."""
    app = OwnCelery("enrollment")
    instance = uuid4().hex  # Identifies this worker in all of its processes.
    app.conf.update(celery_settings(settings))
    app.conf.broker_transport_options["instance"] = instance
    app.loader.override_backends = dict.fromkeys(RESULT_SCHEMES, plugins.RESULT_BACKEND)
    services = _make_services(app, settings, instance)
    database = services.database
    admission = Admission(database.url, services.register)
    register(app, services)
    app.conf.broker_transport_options["recovered"] = services.events.recovered

    def start(sender: Any, **_: Any) -> None:
        if sender.app is not app:
            return
        # The start-up banner is not JSON, so it is left out of a JSON log.
        sender.quiet = sender.quiet or settings.log_format is LogFormat.JSON
        for name in find_ignored_variables():
            log.warning("%s is set, and ignored: only the variables ENROLL_... count", name)
        services.processes.note(sender.concurrency, app.amqp.queues.consume_from)
        for finding in services.processes.check():
            log.warning("%s. %s", finding.found, finding.remedy)
        admission.check()
        if settings.metrics_port is not None:
            _serve_metrics(settings, instance)

    logs.configure(settings.log_format)
    signals.worker_init.connect(start, weak=False)
    signals.worker_init.connect(patches.notice_ended_processes, weak=False)
    signals.worker_init.connect(patches.end_between_messages, weak=False)
    signals.worker_ready.connect(lambda **_: admission.watch(), weak=False)
    signals.worker_init.connect(_collect_garbage_rarely, weak=False)
    signals.worker_process_init.connect(_collect_garbage_rarely, weak=False)
    signals.worker_process_init.connect(patches.stop_pool_processes_soon, weak=False)
    signals.worker_process_shutdown.connect(lambda **_: database.close(), weak=False)
    app.set_current()
    return app


def _make_services(app: Celery, settings: Settings, instance: str) -> Services:
    keys = Keys(settings.key_prefix)
    database_register = DatabaseRegister(attempts_url(settings), keys)
    database = GuardedDatabase(settings.database_url.get_secret_value(), database_register.admit)
    metrics = Metrics(served=settings.metrics_port is not None)
    attempts = Attempts(attempts_url(settings), instance, settings.max_attempts, keys)
    marks = SubmissionMarks(results_url(settings), keys)
    events = Events(metrics)

    def refused(error: BaseException) -> None:
        events.database_refused(error)
        if is_answer(error):  # The driver's own messages name hosts and users.
            marks.note_outage(sentence_of(error))

    return Services(
        database=database,
        marks=marks,
        cached=CachedAnswers(results_url(settings), keys),
        clock=RedisClock(results_url(settings)),
        backlog=Backlog(queues_url(settings), keys),
        attempts=attempts,
        retry_policy=RetryPolicy(
            database,
            attempts,
            settings.database_wait,
            metrics.database_wait.inc,
            refused,
            marks.forget_outage,
        ),
        events=events,
        register=database_register,
        plans_due=PlansDue(),
        processes=WorkerProcesses(),
        expiry=Expiry(timedelta(days=settings.held_days), timedelta(days=settings.staged_days)),
        one_redis=attempts_url(settings) == results_url(settings),
        # Celery makes one backend for each thread, so it is looked up at each call.
        store_refusal=lambda *refusal: app.backend.store_refusal(*refusal),  # noqa: PLW0108
    )


def _serve_metrics(settings: Settings, instance: str) -> None:
    # Not `instance`: Prometheus uses that label for the target.
    labels = {"version": version("enrollment-worker"), "worker": instance}
    try:
        server = Exporter(settings, labels)
    except OSError as error:
        raise SystemExit(
            f"ENROLL_METRICS_PORT: cannot listen on {settings.metrics_host} port"
            f" {settings.metrics_port} ({error}). Give each worker on a host a port of its own."
        ) from error
    signals.worker_process_init.connect(lambda **_: server.forget(), weak=False)
    signals.worker_shutdown.connect(lambda **_: server.close(), weak=False)


def _collect_garbage_rarely(**_: Any) -> None:
    """Look for cyclic garbage rarely: a chunk holds tens of thousands of objects and no cycles.

    With CPython's default thresholds, a worker spends a third of its time on the search.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
