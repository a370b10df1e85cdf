"""Celery's entry points, as thin as a web view: parse, call the service, return."""

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from celery import Celery, Task, states
from celery.exceptions import Reject
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from producer.schemas import (
    KIND_TASKS,
    MAX_LOOKUP,
    MAX_REQUEST_ID,
    Identifier,
    Kind,
    Message,
    RequestId,
    StudentEnrollmentRequest,
    TaskName,
    explain,
)
from worker import batches, lookups, service
from worker.database import Database, is_outage
from worker.groups import Call
from worker.submissions import Submissions

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOKUP_WAIT = 3.0
"""Seconds that a lookup waits for an absent database: somebody is waiting for the answer."""

_TEXTS = TypeAdapter(Annotated[list[RequestId], Field(max_length=MAX_LOOKUP)])
_NUMBERS = TypeAdapter(
    Annotated[
        list[Annotated[int, Field(strict=True, ge=0, lt=2**63)]], Field(max_length=MAX_LOOKUP)
    ]
)
_IDS = TypeAdapter(Annotated[list[Identifier], Field(max_length=MAX_LOOKUP)])
_LIMIT = TypeAdapter(Annotated[int, Field(strict=True, ge=1, le=MAX_LOOKUP)])


def register(
    app: Celery, database: Database, submissions: Submissions, database_wait: float
) -> None:
    """Give the app its tasks under their fixed names.

    `database_wait` is how many seconds a task keeps its message while the database is away.
    """

    def held(work: Callable[[], T]) -> T:
        try:
            return _waiting(database_wait, work)
        except DBAPIError as error:
            if is_outage(error):
                raise Reject(f"The database is away: {error.orig}", requeue=True) from error
            raise

    _register_enroll(app, database, submissions, held)
    for kind in Kind:
        _register_chunks(app, database, kind, held)
    _register_lookups(app, database, submissions)


def _register_enroll(
    app: Celery, database: Database, submissions: Submissions, held: Callable[..., Any]
) -> None:
    def answer(asked: Sequence[service.Asked], answered: Sequence[bool]) -> list[Any]:
        return list(map(_dump, service.decide_requests(database, asked, answered)))

    class Enroll(Task):
        Strategy = "worker.groups:strategy"

        def decide_group(self, calls: Sequence[Call]) -> bool:
            """Decide calls in one transaction; returns whether that failed, whatever it was."""
            try:
                asked = [_asked(call.task_id, call.args, call.kwargs) for call in calls]
                waits = [not call.ignore_result for call in calls]
                answers = held(lambda: answer(asked, waits))
            except Exception as error:  # noqa: BLE001 - each is run by itself and shows its own
                what = type(getattr(error, "orig", error)).__name__
                log.warning("%s: a group of %s requests is run one by one", what, len(calls))
                return True
            try:
                waited_for = [call.task_id for call in calls if not call.ignore_result]
                for task_id, value in zip(waited_for, answers, strict=True):
                    app.backend.store_result(task_id, value, states.SUCCESS)
            except Exception as error:  # noqa: BLE001 - whatever a backend raises
                log.warning("Answers could not be handed over; SQL has them: %s", error)
            submissions.finished([one.request_id for one in asked])
            return False

    @app.task(shared=False, name=TaskName.ENROLL, bind=True, base=Enroll)
    def enroll(task: Task, /, *args: Any, **kwargs: Any) -> Any:
        asked = _asked(task.request.id, args, kwargs)
        submissions.running(asked.request_id)
        (value,) = held(lambda: answer([asked], [True]))
        submissions.finished([asked.request_id])
        return value


def _register_chunks(app: Celery, database: Database, kind: Kind, held: Callable[..., Any]) -> None:
    @app.task(shared=False, name=KIND_TASKS[kind], ignore_result=True)
    def apply_chunk(*args: Any, **kwargs: Any) -> Any:
        payload = args[0] if len(args) == 1 and not kwargs else None
        try:
            return held(lambda: batches.apply_chunk(database, kind, payload))
        except ValidationError as error:
            problems = "; ".join(problem.message for problem in explain(error))
            log.error("A chunk of %s breaks the contract and is refused: %s", kind, problems)  # noqa: TRY400
            return problems


def _register_lookups(app: Celery, database: Database, submissions: Submissions) -> None:
    @app.task(shared=False, name=TaskName.STATUS)
    def status(request_ids: Any) -> Any:
        ids = _checked(_TEXTS, request_ids)
        left = submissions.of_requests(ids)
        return _answer(lambda: lookups.request_statuses(database, ids, left))

    @app.task(shared=False, name=TaskName.BATCH)
    def batch(batch_ids: Any, *, refusals: Any = True) -> Any:
        ids = _checked(_TEXTS, batch_ids)
        left = submissions.of_batches(ids)
        return _answer(
            lambda: lookups.batch_statuses(database, ids, left, refusals=refusals is True)
        )

    @app.task(shared=False, name=TaskName.CHUNKS)
    def chunks(batch_id: Any, numbers: Any) -> Any:
        (batch,), wanted = _checked(_TEXTS, [batch_id]), _checked(_NUMBERS, numbers)
        return _answer(lambda: lookups.applied_chunks(database, batch, wanted))

    @app.task(shared=False, name=TaskName.REFUSALS)
    def refusals(batch_id: Any, line: Any = 0, after: Any = 0, limit: Any = MAX_LOOKUP) -> Any:
        """Those behind a line and an id, at most `limit`."""
        (batch,), behind = _checked(_TEXTS, [batch_id]), _checked(_NUMBERS, [line, after])
        most = _checked(_LIMIT, limit)
        return _answer(
            lambda: lookups.refused_records(database, batch, (behind[0], behind[1]), most)
        )

    @app.task(shared=False, name=TaskName.RESULTS)
    def results(students: Any, limit: Any = 100) -> Any:
        ids, most = _checked(_IDS, students), _checked(_LIMIT, limit)
        return _answer(lambda: lookups.student_results(database, ids, most))

    @app.task(shared=False, name=TaskName.STUDENT)
    def student(students: Any) -> Any:
        ids = _checked(_IDS, students)
        return _answer(lambda: lookups.students(database, ids))


def _waiting(seconds: float, work: Callable[[], T]) -> T:
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, DBAPIError) and is_outage(e)),
        wait=wait_exponential(multiplier=0.1, max=10),
        stop=stop_after_delay(seconds),
        before_sleep=_say_waiting,
        reraise=True,
    )
    return retrying(work)


def _say_waiting(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    cause = str(getattr(error, "orig", error)).splitlines()[:1]
    log.warning("The database is away (%s); trying again", *cause or [type(error).__name__])


def _answer(work: Callable[[], Any]) -> Any:
    return _dump(_waiting(LOOKUP_WAIT, work))


def _dump(value: Any) -> Any:
    if isinstance(value, Message):
        return value.model_dump(mode="json")
    return [_dump(one) for one in value] if isinstance(value, Sequence) else value


def _checked(adapter: TypeAdapter[T], value: Any) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = "".join(f"[{p}]" for p in detail["loc"] if isinstance(p, int))
        # The caller reads this text; pydantic's own exception would not survive the way.
        raise ValueError(f"the list of ids{place}: {detail['msg']}") from None


def _asked(task_id: object, args: Sequence[Any], kwargs: dict[str, Any]) -> service.Asked:
    """A request as a message brings it; its id is the task's if it has none of its own."""
    record = args[0] if len(args) == 1 and not kwargs else {"args": args, "kwargs": kwargs}
    own_id = str(task_id)[:MAX_REQUEST_ID]
    try:
        request = StudentEnrollmentRequest.model_validate(record)
    except ValidationError as error:
        return service.Asked(_readable_id(record) or own_id, record, None, explain(error))
    return service.Asked(request.request_id or own_id, record, request)


def _readable_id(record: object) -> str | None:
    """The request id of a request that breaks the contract elsewhere."""
    try:
        asked = record.get("request_id") if isinstance(record, dict) else None
        return _TEXTS.validate_python([asked])[0]
    except ValidationError:
        return None
