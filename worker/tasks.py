"""Celery's entry points, as thin as a web view: parse, call the service, return."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress
from typing import Any, TypeVar

from celery import Celery, Task, current_task, signals
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError

from producer.contract.lookups import Identifiers, Limit, Numbers, RequestIds, ResultCursor
from producer.contract.marks import request_key
from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import MAX_LOOKUP, ContractModel, Kind
from worker import health, lookups, recovery
from worker.attempts import Attempts
from worker.database.engine import Database
from worker.database.errors import is_outage
from worker.delivery import Delivery
from worker.events import Events
from worker.groups import Call
from worker.lookups import (
    applied_chunks,
    batch_statuses,
    refused_records,
    request_statuses,
    student_results,
)
from worker.patience import Patience
from worker.service import decide_requests, read_request
from worker.submissions import Submissions

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOKUP_WAIT = 3.0
"""Seconds that a lookup waits for an absent database: somebody is waiting for the answer."""

REQUEST = "worker.intake:CountedRequest"

_TEXTS = TypeAdapter(RequestIds)
_NUMBERS = TypeAdapter(Numbers)
_IDS = TypeAdapter(Identifiers)
_PLACE: TypeAdapter[ResultCursor | None] = TypeAdapter(ResultCursor | None)
_LIMIT = TypeAdapter(Limit)


class Unanswerable(Exception):
    """A lookup gets no answer; the text is for whoever asked."""


def register(
    app: Celery,
    database: Database,
    submissions: Submissions,
    attempts: Attempts,
    patience: Patience,
    events: Events,
) -> None:
    """Give the app its tasks under their fixed names."""
    _register_enroll(app, database, submissions, attempts, patience, events)
    for kind in Kind:
        _register_chunks(app, database, kind, patience, events)
    _register_lookups(app, database, submissions, patience, events)


def _register_enroll(
    app: Celery,
    database: Database,
    submissions: Submissions,
    attempts: Attempts,
    patience: Patience,
    events: Events,
) -> None:
    class Enroll(Task):
        Request = REQUEST
        Strategy = "worker.groups:strategy"

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
            lambda: recovery.isolate_request(database, asked),
            lambda: recovery.give_up_request(database, asked, "it killed its worker"),
        )
        submissions.forget([asked.request_id])
        events.requests_decided([task.request.id], decisions, time.perf_counter() - started)
        return _dump(decisions.answers[0])


def _register_chunks(
    app: Celery, database: Database, kind: Kind, patience: Patience, events: Events
) -> None:
    class Apply(Task):
        Request = REQUEST

    @app.task(shared=False, name=KIND_TASKS[kind].value, bind=True, base=Apply, ignore_result=True)
    def apply_chunk(task: Task, /, *args: Any, **kwargs: Any) -> None:
        delivery = Delivery(database, events, kind, task.request.id, args, kwargs)
        patience.attempt(task.request.id, delivery.apply, delivery.isolate, delivery.give_up)
        if delivery.refused is not None:
            app.backend.refuse(task.request.id, delivery.refused)


def _register_lookups(
    app: Celery,
    database: Database,
    submissions: Submissions,
    patience: Patience,
    events: Events,
) -> None:
    answer = partial(_answered, patience, events)

    # A question that takes its worker with it is not asked again.
    lookup = partial(app.task, shared=False, reject_on_worker_lost=False, throws=(Unanswerable,))

    @lookup(name=TaskName.STATUS.value)
    def status(request_ids: Any) -> Any:
        ids = _checked(_TEXTS, request_ids)
        left = submissions.of_requests(ids)
        return answer(lambda: request_statuses(database, ids, left))

    @lookup(name=TaskName.BATCH.value)
    def batch(batch_ids: Any, *, refusals: Any = True) -> Any:
        ids = _checked(_TEXTS, batch_ids)
        left = submissions.of_batches(ids)
        return answer(lambda: batch_statuses(database, ids, left, refusals=refusals is True))

    @lookup(name=TaskName.CHUNKS.value)
    def chunks(batch_id: Any, numbers: Any) -> Any:
        (batch,), wanted = _checked(_TEXTS, [batch_id]), _checked(_NUMBERS, numbers)
        return answer(lambda: applied_chunks(database, batch, wanted))

    @lookup(name=TaskName.REFUSALS.value)
    def refusals(batch_id: Any, line: Any = 0, after: Any = 0, limit: Any = MAX_LOOKUP) -> Any:
        """Those behind a line and an id, at most `limit`."""
        (batch,), behind = _checked(_TEXTS, [batch_id]), _checked(_NUMBERS, [line, after])
        most = _checked(_LIMIT, limit, "limit")
        return answer(lambda: refused_records(database, batch, (behind[0], behind[1]), most))

    @lookup(name=TaskName.RESULTS.value)
    def results(students: Any, limit: Any = 100, before: Any = None) -> Any:
        """Those before the moment and the id of an outcome, where they are given."""
        ids, most = _checked(_IDS, students), _checked(_LIMIT, limit, "limit")
        older = _checked(_PLACE, before, "before: [completed_at, request_id] of an outcome")
        return answer(lambda: student_results(database, ids, most, older))

    @lookup(name=TaskName.HEALTH.value)
    def health_of_worker() -> Any:
        return _dump(health.of_worker(database.url))

    @lookup(name=TaskName.STUDENT.value)
    def student(students: Any) -> Any:
        ids = _checked(_IDS, students)
        return answer(lambda: lookups.students(database, ids))


def _answered(patience: Patience, events: Events, work: Callable[[], Any]) -> Any:
    """What a lookup returns, as JSON. Raises Unanswerable."""
    started = time.perf_counter()
    try:
        answer = _dump(patience.wait(work, LOOKUP_WAIT))
    except DBAPIError as error:
        # Whoever asks is a stranger: what the driver says names hosts and users.
        if not is_outage(error):
            log.exception("A lookup could not be answered")
        raise Unanswerable("the database could not be asked; ask again later") from None
    task = current_task.request
    events.looked_up(task.task, task.id, time.perf_counter() - started)
    return answer


def _dump(value: Any) -> Any:
    if isinstance(value, ContractModel):
        return value.model_dump(mode="json")
    return [_dump(one) for one in value] if isinstance(value, Sequence) else value


def _checked(adapter: TypeAdapter[T], value: Any, what: str = "the list of ids") -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = "".join(f"[{p}]" for p in detail["loc"] if isinstance(p, int))
        # The caller reads this text; pydantic's own exception would not survive the way.
        raise Unanswerable(f"{what}{place}: {detail['msg']}") from None
