"""Celery's entry points, as thin as a web view: parse, call the service, return."""

from celery import Celery

from producer.schemas import Kind
from worker.database.engine import Database
from worker.messaging.attempts import Attempts
from worker.messaging.marks import SubmissionMarks
from worker.monitoring.events import Events
from worker.recovery.retry_policy import RetryPolicy
from worker.tasks.chunks import _register_chunks
from worker.tasks.lookups import _register_lookups
from worker.tasks.requests import _register_enroll


def register(
    app: Celery,
    database: Database,
    submissions: SubmissionMarks,
    attempts: Attempts,
    patience: RetryPolicy,
    events: Events,
) -> None:
    """Give the app its tasks under their fixed names."""
    _register_enroll(app, database, submissions, attempts, patience, events)
    for kind in Kind:
        _register_chunks(app, database, kind, patience, events)
    _register_lookups(app, database, submissions, patience, events)
