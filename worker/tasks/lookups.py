"""The tasks that answer lookups."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from celery import Celery, current_task
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError

from producer.contract.lookups import Identifiers, Limit, Numbers, RequestIds, ResultCursor
from producer.contract.routing import TaskName
from producer.schemas import MAX_LOOKUP
from worker.batches.status import applied_chunks, batch_statuses, refused_records
from worker.database.errors import is_outage
from worker.enrollment import lookups
from worker.enrollment.lookups import request_statuses, student_results
from worker.monitoring import health
from worker.tasks.answer import to_json
from worker.tasks.services import Services

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOKUP_WAIT = 3.0
"""Seconds that a lookup waits for an absent database: somebody is waiting for the answer."""

_TEXTS = TypeAdapter(RequestIds)
_NUMBERS = TypeAdapter(Numbers)
_IDS = TypeAdapter(Identifiers)
_PLACE: TypeAdapter[ResultCursor | None] = TypeAdapter(ResultCursor | None)
_LIMIT = TypeAdapter(Limit)


class Unanswerable(Exception):
    """A lookup gets no answer; the text is for whoever asked."""


def register_lookups(app: Celery, services: Services) -> None:
    """Give the app the tasks that answer lookups."""
    # A lookup that takes its worker with it is not asked again.
    lookup = partial(app.task, shared=False, reject_on_worker_lost=False, throws=(Unanswerable,))
    _register_status(lookup, services)
    _register_reading(lookup, services)


def _register_status(lookup: Callable[..., Any], services: Services) -> None:
    """Where requests and batches stand."""
    database, marks = services.database, services.marks
    answer = partial(_answer, services)

    @lookup(name=TaskName.STATUS.value)
    def status(request_ids: Any) -> Any:
        ids = _checked(_TEXTS, request_ids)
        of_requests = marks.of_requests(ids)
        return answer(lambda: request_statuses(database, ids, of_requests))

    @lookup(name=TaskName.BATCH.value)
    def batch(batch_ids: Any, *, refusals: Any = True) -> Any:
        ids = _checked(_TEXTS, batch_ids)
        of_batches = marks.of_batches(ids)
        return answer(lambda: batch_statuses(database, ids, of_batches, refusals=refusals is True))

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


def _register_reading(lookup: Callable[..., Any], services: Services) -> None:
    """What is stored about students, and how the worker is."""
    database = services.database
    answer = partial(_answer, services)

    @lookup(name=TaskName.RESULTS.value)
    def results(students: Any, limit: Any = 100, before: Any = None) -> Any:
        """Those before the moment and the id of an outcome, where they are given."""
        ids, most = _checked(_IDS, students), _checked(_LIMIT, limit, "limit")
        older = _checked(_PLACE, before, "before: [completed_at, request_id] of an outcome")
        return answer(lambda: student_results(database, ids, most, older))

    @lookup(name=TaskName.HEALTH.value)
    def health_of_worker() -> Any:
        return to_json(health.of_worker(database.url))

    @lookup(name=TaskName.STUDENT.value)
    def student(students: Any) -> Any:
        ids = _checked(_IDS, students)
        return answer(lambda: lookups.students(database, ids))


def _answer(services: Services, work: Callable[[], Any]) -> Any:
    """Do a lookup and return what it finds, as JSON. Raises Unanswerable."""
    started = time.perf_counter()
    try:
        answer = to_json(services.retry_policy.through_outage(work, LOOKUP_WAIT))
    except DBAPIError as error:
        # Whoever asks is a stranger: what the driver says names hosts and users.
        if not is_outage(error):
            log.exception("A lookup could not be answered")
        raise Unanswerable("the database could not be asked; ask again later") from None
    task = current_task.request
    services.events.looked_up(task.task, task.id, time.perf_counter() - started)
    return answer


def _checked(adapter: TypeAdapter[T], value: Any, what: str = "the list of ids") -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = "".join(f"[{p}]" for p in detail["loc"] if isinstance(p, int))
        # The caller reads this text; pydantic's own exception would not survive the way.
        raise Unanswerable(f"{what}{place}: {detail['msg']}") from None
