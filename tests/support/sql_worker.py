"""Run tasks with the worker's own rules and SQL, but without a broker or a worker process."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import text

from producer.contract.batches import BatchCursor
from producer.contract.headers import BatchOrigin
from producer.contract.lookups import ResultCursor
from producer.contract.plans import DecisionMessage
from producer.contract.routing import KIND_TASKS, TaskName
from producer.fields import Moment
from producer.schemas import Kind
from support.staging import work_on
from worker.batches.apply import apply_chunk, read_chunk
from worker.batches.listing import BatchSearch, batch_page
from worker.batches.status import (
    applied_chunks,
    batch_statuses,
    recent_batch_ids,
)
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.enrollment.lookups import request_statuses, student_results, students
from worker.enrollment.results import to_response
from worker.history.lookups import course_roll, course_rolls, student_history
from worker.models import Base
from worker.moments import own_clock
from worker.plans.advance import advance_next
from worker.plans.decisions import DecisionRefused, decide
from worker.plans.reports.lookups import plan_status, planned_drops
from worker.plans.staging import Delivered, stage_chunk
from worker.refused_lines.lookups import refused_records
from worker.roster.lookups import find_courses, find_students
from worker.service import add_enrollments
from worker.tasks.answer import to_json
from worker.undo.reports import done, done_before, preview, refused
from worker.undo.run import undo
from worker.undo.values import AlreadyUndone, CannotUndo

_PLACE: TypeAdapter[BatchCursor | None] = TypeAdapter(BatchCursor | None)
_MOMENT: TypeAdapter[datetime | None] = TypeAdapter(Moment | None)
_CURSOR: TypeAdapter[ResultCursor | None] = TypeAdapter(ResultCursor | None)


class SqlWorker:
    """The tasks of a worker, on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claims: dict[str, int | None] = {}
        self._tasks: dict[TaskName, Callable[..., Any]] = {
            TaskName.STATUS: lambda ids: request_statuses(database, ids, {}),
            TaskName.BATCH: lambda ids, refusals: batch_statuses(
                database, ids, {}, refusals=refusals
            ),
            TaskName.REFUSALS: lambda batch_id, line, after, limit=1_000, **options: (
                refused_records(database, batch_id, (line, after), limit, **options)
            ),
            TaskName.RECENT_BATCHES: self._recent_batches,
            TaskName.STUDENT: lambda ids: students(database, ids),
            TaskName.HISTORY: partial(student_history, database),
            TaskName.FIND_STUDENTS: partial(find_students, database),
            TaskName.FIND_COURSES: partial(find_courses, database),
            TaskName.ROLL: lambda course, at=None: course_roll(
                database, course, _MOMENT.validate_python(at)
            ),
            TaskName.ROLLS: partial(course_rolls, database),
            TaskName.PLAN: partial(plan_status, database),
            TaskName.PLANNED_DROPS: lambda plan_id, after=None, limit=1_000: planned_drops(
                database, plan_id, after, limit
            ),
            TaskName.DECIDE: self._decide,
            TaskName.UNDO: self._undo,
            TaskName.REHEARSE_UNDO: partial(preview, database),
        }

    def run(
        self,
        task: TaskName,
        args: list[Any],
        kwargs: dict[str, Any],
        headers: Mapping[str, Any],
    ) -> Any:
        origin = BatchOrigin.from_headers(headers)
        for kind, name in KIND_TASKS.items():
            if task is name:
                self._apply(kind, args[0], origin)
                return None
        if task is TaskName.ENROLL:
            incoming = read_request(uuid.uuid4().hex, args, {}, origin.moment)
            decisions = add_enrollments(self._database, [incoming])
            (decided,) = decisions.decided
            return to_json(to_response(decided.result, decisions.courses, decisions.sis_ids))
        if task is TaskName.CHUNKS:
            batch_id, numbers = args
            found = applied_chunks(self._database, batch_id, numbers)
            return to_json(found.model_copy(update={"first_chunk": self._claims.get(batch_id)}))
        if task is TaskName.RESULTS:
            cursor = _CURSOR.validate_python(kwargs.pop("before", None))
            return to_json(student_results(self._database, args[0], before=cursor, **kwargs))
        return to_json(self._tasks[task](*args, **kwargs))

    def _apply(self, kind: Kind, chunk: str, origin: BatchOrigin) -> None:
        parsed, fingerprint = read_chunk(kind, chunk)
        if parsed.plan is None:
            apply_chunk(self._database, kind, chunk, origin=origin)
            return
        stage_chunk(self._database, Delivered(kind, parsed, fingerprint, chunk, origin))
        self._advance()

    def _advance(self) -> None:
        """Do what is due for plans."""
        work = work_on(self._database)
        while advance_next(work):
            pass

    def _decide(self, decision: dict[str, Any]) -> Any:
        checked = DecisionMessage.model_validate(decision)
        with suppress(DecisionRefused):
            decide(self._database, checked.plan_id, checked.decision, checked.digest)
        self._advance()
        return plan_status(self._database, checked.plan_id)

    def _undo(self, batch_id: str) -> Any:
        try:
            return done(undo(self._database, batch_id))
        except AlreadyUndone as error:
            return done_before(self._database, batch_id, error)
        except CannotUndo as error:
            return refused(batch_id, error)

    def create_data_set(self, name: str) -> None:
        with self._database.writing() as connection:
            allow_snapshots(connection, data_set_key(connection, name, own_clock()))

    def _recent_batches(
        self, limit: int, *, paged: bool = False, cursor: Any = None, **selected: Any
    ) -> Any:
        database = self._database
        if not paged:
            ids = recent_batch_ids(database, limit)
            return batch_statuses(database, ids, {}, refusals=False)
        search = BatchSearch(_PLACE.validate_python(cursor), **selected)
        statuses_of = partial(batch_statuses, database, marks={}, refusals=False, with_files=False)
        return batch_page(database, search, limit, statuses_of)

    def claim(self, batch_id: str, first_chunk: int | None) -> bool:
        if batch_id in self._claims:
            return False
        self._claims[batch_id] = first_chunk
        return True

    def clear(self) -> None:
        """Remove all rows; keys begin at 1 again."""
        self._claims.clear()
        with self._database.writing() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                if table.name != "database_identity":
                    connection.execute(text(f"DELETE FROM {table.name}"))  # noqa: S608
