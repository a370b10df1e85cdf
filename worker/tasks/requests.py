"""The task for single requests: decide them, alone or as a group."""

import time
from collections.abc import Sequence
from itertools import compress
from typing import Any

from celery import Celery, Task, signals

from producer.contract.marks import request_key
from producer.contract.routing import TaskName
from worker.database.engine import Database
from worker.enrollment.rules import read_request
from worker.messaging.attempts import Attempts
from worker.messaging.grouping import Call
from worker.messaging.marks import SubmissionMarks
from worker.monitoring.events import Events
from worker.recovery.isolate import give_up_request, isolate_request
from worker.recovery.retry_policy import RetryPolicy
from worker.service import decide_requests
from worker.tasks.answer import REQUEST, _dump, log


def _register_enroll(
    app: Celery,
    database: Database,
    submissions: SubmissionMarks,
    attempts: Attempts,
    patience: RetryPolicy,
    events: Events,
) -> None:
    class Enroll(Task):
        Request = REQUEST
        Strategy = "worker.messaging.grouping:strategy"

        def decide_group(self, calls: Sequence[Call]) -> bool:
            """Decide calls in one transaction; returns whether that failed, whatever it was."""
            ids = [call.task_id for call in calls]
            if signals.task_prerun.receivers:
                # Whoever follows tasks, as OpenTelemetry does, is to see each of them.
                return True
            if attempts.begin(ids):
                attempts.end(ids, done=False)
                return True
            try:
                asked = [read_request(call.task_id, call.args, call.kwargs) for call in calls]
                waits = [not call.ignore_result for call in calls]
                started = time.perf_counter()
                decisions = patience.hold(lambda: decide_requests(database, asked, waits))
            except Exception as error:  # noqa: BLE001 - each is run by itself and shows its own
                what = type(getattr(error, "orig", error)).__name__
                log.warning("%s: a group of %s requests is run one by one", what, len(calls))
                attempts.end(ids, done=False)
                return True
            duration = time.perf_counter() - started
            try:
                answers = zip(compress(ids, waits), _dump(decisions.answers), strict=True)
                app.backend.store_all(answers, [request_key(one.request_id) for one in asked])
            except Exception as error:  # noqa: BLE001 - whatever a backend raises
                log.warning("Answers could not be handed over; SQL has them: %s", error)
            attempts.end(ids)
            events.requests_decided(ids, decisions, duration)
            return False

    @app.task(shared=False, name=TaskName.ENROLL.value, bind=True, base=Enroll)
    def enroll(task: Task, /, *args: Any, **kwargs: Any) -> Any:
        asked = read_request(task.request.id, args, kwargs)
        submissions.running(asked.request_id)
        started = time.perf_counter()
        decisions = patience.attempt(
            task.request.id,
            lambda: decide_requests(database, [asked], [True]),
            lambda: isolate_request(database, asked),
            lambda: give_up_request(database, asked, "it killed its worker"),
        )
        submissions.forget([asked.request_id])
        events.requests_decided([task.request.id], decisions, time.perf_counter() - started)
        return _dump(decisions.answers[0])
