"""Answer tasks in memory, as a worker does: enrollments, chunks and lookups."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

from pydantic import TypeAdapter

from producer.contract import lookup_arguments as arguments
from producer.contract.chunks import KIND_CHUNKS, fingerprint_of
from producer.contract.headers import BatchOrigin
from producer.contract.lookup_arguments import (
    CODE,
    CURSOR,
    ID,
    ID_OR_NONE,
    IDS,
    KIND,
    LIMIT,
    MOMENT,
    NUMBER,
    NUMBERS,
    PAIR_CURSOR,
    PLACE,
    ROLLS_CURSOR,
    SEARCH,
    STATE,
    SUBMITTER,
    TEXT,
    TEXTS,
    InvalidArgument,
)
from producer.contract.lookups import DatabaseState, WorkerHealth
from producer.contract.routing import KIND_TASKS, TaskName
from producer.errors import LookupFailed
from producer.fields import MAX_LOOKUP
from producer.schemas import (
    ContractModel,
    Kind,
    RequestState,
    RequestStatus,
    StudentEnrollmentRequest,
)
from producer.testing import history, reading, searching
from producer.testing.batches import BatchSearch
from producer.testing.plans import Plans, StagedChunk
from producer.testing.results import Incoming, Times
from producer.testing.undos import Undos
from producer.testing.world import World

T = TypeVar("T")


class MemoryWorker:
    """A worker with its database, in memory; only one thread at a time may use it."""

    def __init__(self) -> None:
        self._claims: dict[str, int | None] = {}
        """The fingerprint of the first chunk of each batch, by batch id."""
        world = World.empty()
        self._enrollments = world.enrollments
        self._batches = world.batches
        self._plans = Plans(world)
        self._undos = Undos(world)
        self._data_sets = world.data_sets
        now = datetime.now(UTC)
        self._times = Times(now, now)
        self._origin = BatchOrigin()
        self._tasks: dict[TaskName, Callable[..., Any]] = {
            TaskName.ENROLL: self._enroll,
            TaskName.STATUS: self._status,
            TaskName.BATCH: self._batch,
            TaskName.CHUNKS: self._chunks,
            TaskName.REFUSALS: self._refusals,
            TaskName.RESULTS: self._results,
            TaskName.STUDENT: self._student,
            TaskName.HISTORY: self._history,
            TaskName.ROLL: self._roll,
            TaskName.ROLLS: self._rolls,
            TaskName.FIND_STUDENTS: self._find_students,
            TaskName.FIND_COURSES: self._find_courses,
            TaskName.HEALTH: self._health,
            TaskName.RECENT_BATCHES: self._recent_batches,
            TaskName.PLAN: self._plan,
            TaskName.PLANNED_DROPS: self._planned_drops,
            TaskName.DECIDE: self._decide,
            TaskName.REHEARSE_UNDO: self._rehearse_undo,
            TaskName.UNDO: self._undo,
            **{task: partial(self._apply, kind) for kind, task in KIND_TASKS.items()},
        }

    def run(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: dict[str, Any],
        headers: Mapping[str, Any],
    ) -> Any:
        """Run a task of a message with these headers; return its result as JSON.

        Raises LookupFailed.
        """
        now = datetime.now(UTC)
        self._origin = BatchOrigin.from_headers(headers)
        self._times = Times(min(self._origin.moment or now, now), now)
        return _to_json(self._tasks[task](*args, **kwargs))

    def claim(self, batch_id: str, first_chunk: int | None) -> bool:
        """Store which submission has claimed a batch id, unless one has; return whether it did."""
        if batch_id in self._claims:
            return False
        self._claims[batch_id] = first_chunk
        return True

    def create_data_set(self, name: str) -> None:
        """Create a data set, as an operator does, so that snapshots may use it."""
        self._data_sets.created.add(name)

    def _enroll(self, record: Any) -> Any:
        request = StudentEnrollmentRequest.model_validate(record)
        incoming = Incoming(str(request.request_id), record, request)
        (result,) = self._enrollments.decide([incoming], None, self._times)
        return reading.response(self._enrollments, result)

    def _apply(self, kind: Kind, text: str) -> None:
        chunk = KIND_CHUNKS[kind].model_validate_json(text)
        if chunk.plan is None:
            self._batches.apply(kind, chunk, fingerprint_of(text), self._times, self._origin)
            return
        staged = StagedChunk(chunk, fingerprint_of(text), self._times, self._origin)
        self._plans.stage(kind, staged)

    def _status(self, request_ids: Any) -> Any:
        return [
            self._status_of(request_id)
            for request_id in _checked(TEXTS, request_ids, "request_ids")
        ]

    def _status_of(self, request_id: str) -> RequestStatus:
        result = self._enrollments.results.get(request_id)
        if result is None:
            return RequestStatus(request_id=request_id, state=RequestState.UNKNOWN)
        response = reading.response(self._enrollments, result)
        return RequestStatus(request_id=request_id, state=RequestState.DONE, result=response)

    def _batch(self, batch_ids: Any, *, refusals: bool = True) -> Any:
        status = partial(self._batches.status, refusals=refusals)
        return [status(batch_id) for batch_id in _checked(TEXTS, batch_ids, "batch_ids")]

    def _chunks(self, batch_id: Any, numbers: Any) -> Any:
        checked_id = _checked(TEXT, batch_id, "batch_id")
        wanted = _checked(NUMBERS, numbers, "numbers")
        applied = self._batches.applied(checked_id, wanted, self._claims.get(checked_id))
        if (kind := self._plans.kind_of(checked_id)) is None:
            return applied
        staged = self._plans.fingerprints(checked_id)
        fingerprints = tuple(staged.get(number) for number in wanted)
        return applied.model_copy(update={"kind": kind, "fingerprints": fingerprints})

    def _refusals(
        self,
        batch_id: Any,
        line: Any,
        after: Any,
        limit: Any = MAX_LOOKUP,
        *,
        code: Any = None,
        whole: Any = False,
    ) -> Any:
        checked_id = _checked(TEXT, batch_id, "batch_id")
        cursor = (_checked(NUMBER, line, "line"), _checked(NUMBER, after, "after"))
        page_size, cause = _checked(LIMIT, limit, "limit"), _checked(CODE, code, "code")
        return self._batches.refused(checked_id, cursor, page_size, cause, whole=whole is True)

    def _results(self, students: Any, limit: Any = 100, before: Any = None) -> Any:
        ids, page_size = _checked(IDS, students, "students"), _checked(LIMIT, limit, "limit")
        cursor = _checked(CURSOR, before, "before")
        results_of = partial(reading.results_of, self._enrollments)
        return [results_of(student, page_size, cursor) for student in ids]

    def _student(self, students: Any) -> Any:
        student_of = partial(reading.student, self._enrollments)
        return [student_of(student) for student in _checked(IDS, students, "students")]

    def _history(
        self, student: Any, course: Any = None, limit: Any = 100, before: Any = None
    ) -> Any:
        named = _checked(ID, student, "student")
        about = _checked(ID_OR_NONE, course, "course")
        page = history.Page(_checked(LIMIT, limit, "limit"), _checked(MOMENT, before, "before"))
        return history.history(self._enrollments, named, about, page)

    def _roll(self, course: Any, at: Any = None, limit: Any = MAX_LOOKUP, after: Any = 0) -> Any:
        named = _checked(ID, course, "course")
        page_size, moment = _checked(LIMIT, limit, "limit"), _checked(MOMENT, at, "at")
        last_key = _checked(NUMBER, after, "after")
        at_or_now = history.RollMoment(moment or self._times.now, is_now=moment is None)
        return history.roll(self._enrollments, named, at_or_now, page_size, last_key)

    def _rolls(self, courses: Any, after: Any = None) -> Any:
        named = _checked(IDS, courses, "courses")
        return history.rolls(self._enrollments, named, _checked(ROLLS_CURSOR, after, "after"))

    def _find_students(self, text: Any, limit: Any = 20) -> Any:
        wanted, most = _checked(SEARCH, text, "text"), _checked(LIMIT, limit, "limit")
        return searching.find_students(self._enrollments, wanted, most)

    def _find_courses(self, text: Any, limit: Any = 20) -> Any:
        wanted, most = _checked(SEARCH, text, "text"), _checked(LIMIT, limit, "limit")
        return searching.find_courses(self._enrollments, wanted, most)

    def _recent_batches(
        self,
        limit: Any,
        *,
        paged: Any = False,
        cursor: Any = None,
        state: Any = None,
        kind: Any = None,
        submitter: Any = None,
    ) -> Any:
        page_size = _checked(LIMIT, limit, "limit")
        if paged is not True:
            return self._batches.newest(page_size)
        search = BatchSearch(
            _checked(PLACE, cursor, "cursor"),
            _checked(STATE, state, "state"),
            _checked(KIND, kind, "kind"),
            _checked(SUBMITTER, submitter, "submitter"),
        )
        return self._batches.page(search, page_size)

    def _plan(self, plan_id: Any) -> Any:
        return self._plans.status(_checked(TEXT, plan_id, "plan_id"))

    def _planned_drops(self, plan_id: Any, after: Any = None, limit: Any = MAX_LOOKUP) -> Any:
        named = _checked(TEXT, plan_id, "plan_id")
        cursor, page_size = _checked(PAIR_CURSOR, after, "after"), _checked(LIMIT, limit, "limit")
        return self._plans.drops(named, cursor, page_size)

    def _decide(self, decision: Any) -> Any:
        try:
            wanted = arguments.checked_decision(decision)
        except InvalidArgument as error:
            raise LookupFailed(str(error)) from None
        return self._plans.decide(wanted, self._times)

    def _rehearse_undo(self, batch_id: Any) -> Any:
        return self._undos.preview(_checked(TEXT, batch_id, "batch_id"), self._times.now)

    def _undo(self, batch_id: Any) -> Any:
        return self._undos.undo(_checked(TEXT, batch_id, "batch_id"), self._times.now)

    def _health(self) -> Any:
        now = datetime.now(UTC)
        about = version("enrollment-worker")
        return WorkerHealth(version=about, now=now, database=DatabaseState.READY)


def _checked(adapter: TypeAdapter[T], value: Any, name: str) -> T:
    """Return an argument of a lookup. Raises LookupFailed."""
    try:
        return arguments.checked(adapter, value, name)
    except InvalidArgument as error:
        raise LookupFailed(str(error)) from None


def _to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_json(element) for element in value]
    return value.model_dump(mode="json") if isinstance(value, ContractModel) else value
