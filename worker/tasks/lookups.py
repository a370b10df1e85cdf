"""Define the tasks that answer lookups."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from celery import Celery

from producer.contract.batches import AppliedChunks, BatchPage, BatchStatus, RefusedRecord
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
    PLACE,
    ROLLS_CURSOR,
    SEARCH,
    STATE,
    SUBMITTER,
    TEXT,
    TEXTS,
)
from producer.contract.marks import AgedMark
from producer.contract.routing import TaskName
from producer.fields import MAX_KEY, MAX_LOOKUP, MAX_LOOKUP_RESULTS
from producer.schemas import RequestStatus
from worker.batches.listing import BatchSearch, batch_page
from worker.batches.meant_ids import add_meant_ids
from worker.batches.status import applied_chunks, batch_statuses, recent_batch_ids
from worker.enrollment import lookups
from worker.enrollment.lookups import request_statuses, student_results
from worker.history.lookups import course_roll, course_rolls, student_history
from worker.monitoring import health
from worker.plans.reports.lookups import with_stored_chunks
from worker.refused_lines.lookups import refused_records
from worker.roster import lookups as search
from worker.tasks.answer import to_json
from worker.tasks.asking import Unanswerable, answered, checked, registering
from worker.tasks.services import Services

log = logging.getLogger(__name__)
T = TypeVar("T")

RECENT_BATCHES = 20
"""How many of the newest batches a lookup returns that does not say how many it wants."""


def register_lookups(app: Celery, services: Services) -> None:
    """Register the tasks that answer lookups."""
    lookup = registering(app, services)
    _register_status(lookup, services)
    _register_list(lookup, services)
    _register_chunks(lookup, services)
    _register_reading(lookup, services)
    _register_past(lookup, services)
    _register_searches(lookup, services)


def _register_status(lookup: Callable[..., Any], services: Services) -> None:
    """Register the lookups of the states of requests and batches."""
    marks, backlog, cached = services.marks, services.backlog, services.cached
    answer = partial(answered, services)

    @lookup(name=TaskName.STATUS.value)
    def status(request_ids: Any) -> Any:
        ids = checked(TEXTS, request_ids, "request_ids")
        generation = cached.generation()
        request_marks = marks.of_requests(ids)
        outage = marks.outage() if request_marks else None
        lost = backlog.lost_requests(request_marks)

        def read() -> list[RequestStatus]:
            statuses = request_statuses(services.database, ids, request_marks, outage, lost)
            cached.keep_requests(generation, statuses)
            return statuses

        return answer(read)

    @lookup(name=TaskName.BATCH.value)
    def batch(batch_ids: Any, *, refusals: Any = True) -> Any:
        ids = checked(TEXTS, batch_ids, "batch_ids")
        return answer(lambda: _batches(services, ids, refusals=refusals is True))


def _register_list(lookup: Callable[..., Any], services: Services) -> None:
    """Register the lookup of the list of batches."""
    answer = partial(answered, services)

    @lookup(name=TaskName.RECENT_BATCHES.value)
    def recent_batches(
        limit: Any = RECENT_BATCHES,
        *,
        paged: Any = False,
        cursor: Any = None,
        state: Any = None,
        kind: Any = None,
        submitter: Any = None,
    ) -> Any:
        """Return a page of the list of batches, or only the batches on it."""
        page_size = checked(LIMIT, limit, "limit")
        search = BatchSearch(
            checked(PLACE, cursor, "cursor"),
            checked(STATE, state, "state"),
            checked(KIND, kind, "kind"),
            checked(SUBMITTER, submitter, "submitter"),
        )

        def read() -> BatchPage | list[BatchStatus]:
            if paged is True or search != BatchSearch():
                statuses_of = partial(_listed_batches, services)
                page = batch_page(services.database, search, page_size, statuses_of)
                return page if paged is True else list(page.batches)
            ids = recent_batch_ids(services.database, page_size)
            return _batches(services, ids, refusals=False)

        return answer(read)


def _batches(services: Services, ids: list[str], *, refusals: bool) -> list[BatchStatus]:
    """Return the status of batches, and copy it for the polls of the next second."""
    generation = services.cached.generation()
    marks = services.marks.of_batches(ids)
    started = time.monotonic()
    statuses = statuses_of(services, ids, marks, refusals=refusals)
    age = time.monotonic() - started
    services.cached.keep_batches(generation, statuses, marks, refusals=refusals, seconds_ago=age)
    return statuses


def _listed_batches(services: Services, ids: list[str]) -> list[BatchStatus]:
    """Return the status of batches for a list; nothing is copied, because it lacks their files."""
    return statuses_of(
        services, ids, services.marks.of_batches(ids), refusals=False, with_files=False
    )


def statuses_of(
    services: Services,
    ids: list[str],
    marks: Mapping[str, AgedMark],
    *,
    refusals: bool,
    with_files: bool = True,
) -> list[BatchStatus]:
    """Return the status of batches with these marks, which were read before."""
    return batch_statuses(
        services.database,
        ids,
        marks,
        outage=services.marks.outage(),
        waiting=services.backlog.waiting_chunks(ids, marks),
        clock=services.clock,
        refusals=refusals,
        with_files=with_files,
    )


def _register_chunks(lookup: Callable[..., Any], services: Services) -> None:
    """Register the lookups of the chunks and the refused lines of a batch."""
    database, marks = services.database, services.marks
    answer = partial(answered, services)

    @lookup(name=TaskName.CHUNKS.value)
    def chunks(batch_id: Any, numbers: Any) -> Any:
        checked_id = checked(TEXT, batch_id, "batch_id")
        wanted = checked(NUMBERS, numbers, "numbers")
        mark = marks.of_batches([checked_id]).get(checked_id)

        def look_up() -> AppliedChunks:
            applied = applied_chunks(database, checked_id, wanted, mark)
            return with_stored_chunks(database, checked_id, wanted, applied)

        return answer(look_up)

    @lookup(name=TaskName.REFUSALS.value)
    def refusals(
        batch_id: Any,
        line: Any = 0,
        after: Any = 0,
        limit: Any = MAX_LOOKUP,
        *,
        code: Any = None,
        whole: Any = False,
    ) -> Any:
        """Return at most `limit` refused lines, starting after a line and an id."""
        checked_id = checked(TEXT, batch_id, "batch_id")
        cursor = (checked(NUMBER, line, "line"), checked(NUMBER, after, "after"))
        page_size = checked(LIMIT, limit, "limit")
        cause, is_whole = checked(CODE, code, "code"), whole is True

        def look_up() -> list[RefusedRecord]:
            page = refused_records(database, checked_id, cursor, page_size, cause, whole=is_whole)
            return add_meant_ids(database, page) if is_whole else page

        return answer(look_up)


def _register_reading(lookup: Callable[..., Any], services: Services) -> None:
    """Register the lookups of students and their results, and of the worker's health."""
    database = services.database
    answer = partial(answered, services)

    @lookup(name=TaskName.RESULTS.value)
    def results(students: Any, limit: Any = 100, before: Any = None) -> Any:
        """Return the newest results, or those older than the result that `before` points to."""
        ids, page_size = checked(IDS, students, "students"), checked(LIMIT, limit, "limit")
        if len(ids) * page_size > MAX_LOOKUP_RESULTS:
            raise Unanswerable(_too_many_results(len(ids), page_size))
        cursor = checked(CURSOR, before, "before")
        return answer(lambda: student_results(database, ids, page_size, cursor))

    @lookup(name=TaskName.HEALTH.value)
    def health_of_worker() -> Any:
        services.clock.read()
        processes = services.processes
        return to_json(health.of_worker(database, services.register, services.clock, processes))

    @lookup(name=TaskName.STUDENT.value)
    def student(students: Any) -> Any:
        ids = checked(IDS, students, "students")
        return answer(lambda: lookups.students(database, ids))


def _register_past(lookup: Callable[..., Any], services: Services) -> None:
    """Register the lookups of histories and rolls."""
    database, clock = services.database, services.clock
    answer = partial(answered, services)

    @lookup(name=TaskName.HISTORY.value)
    def history(student: Any, course: Any = None, limit: Any = 100, before: Any = None) -> Any:
        """Return a student's history, or what counts before a moment."""
        student_id = checked(ID, student, "student")
        course_id = checked(ID_OR_NONE, course, "course")
        page_size = checked(LIMIT, limit, "limit")
        until = checked(MOMENT, before, "before")
        return answer(lambda: student_history(database, student_id, course_id, page_size, until))

    @lookup(name=TaskName.ROLL.value)
    def roll(course: Any, at: Any = None, limit: Any = MAX_LOOKUP, after: Any = 0) -> Any:
        """Return who is enrolled in a course, or was at a moment."""
        course_id = checked(ID, course, "course")
        page_size, moment = checked(LIMIT, limit, "limit"), checked(MOMENT, at, "at")
        last = min(checked(NUMBER, after, "after"), MAX_KEY)  # No student has a larger key.
        return answer(
            lambda: course_roll(database, course_id, moment, page_size, last, clock=clock)
        )

    @lookup(name=TaskName.ROLLS.value)
    def rolls(courses: Any, after: Any = None) -> Any:
        """Return a part of who is enrolled in courses, by SIS ids."""
        ids, last = checked(IDS, courses, "courses"), checked(ROLLS_CURSOR, after, "after")
        return answer(lambda: course_rolls(database, ids, last))


def _register_searches(lookup: Callable[..., Any], services: Services) -> None:
    """Register the searches of students and courses."""
    answer = partial(answered, services)
    searches = {
        TaskName.FIND_STUDENTS: search.find_students,
        TaskName.FIND_COURSES: search.find_courses,
    }

    def register(task: TaskName, find: Callable[..., Any]) -> None:
        @lookup(name=task.value)
        def find_by_text(text: Any, limit: Any = 20) -> Any:
            wanted, most = checked(SEARCH, text, "text"), checked(LIMIT, limit, "limit")
            return answer(lambda: find(services.database, wanted, most))

    for task, find in searches.items():
        register(task, find)


def _too_many_results(students: int, limit: int) -> str:
    return (
        f"{students} students with a limit of {limit} may have {students * limit} results, and an"
        f" answer has at most {MAX_LOOKUP_RESULTS}; ask for at most"
        f" {MAX_LOOKUP_RESULTS // limit} students at a time, or set limit to at most"
        f" {MAX_LOOKUP_RESULTS // students}"
    )
