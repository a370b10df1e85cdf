"""Define the client for asyncio. Its verbs are those of `EnrollmentClient`, to be awaited."""

import asyncio
import math
from collections.abc import (
    AsyncIterator,
    Callable,
    Sequence,
)
from datetime import datetime
from typing import Any

from producer.aio.calls import verb
from producer.aio.connection import LookupKind
from producer.aio.planner import AsyncEnrollmentPlanner
from producer.aio.submitter import STATUS
from producer.contract.batches import (
    AppliedChunks,
    BatchPage,
    BatchState,
    BatchStatus,
    RefusedRecord,
)
from producer.contract.history import CourseRoll, CourseRolls, EnrolledStudent, StudentHistory
from producer.contract.lookups import WorkerHealth
from producer.contract.routing import TaskName
from producer.contract.searching import FoundCourses, FoundStudents
from producer.errors import (
    BatchCannotFinish,
    BatchConflict,
    BrokerUnavailable,
    ClientClosed,
    EnrollmentError,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.fields import MAX_LOOKUP
from producer.publishing.applied import AppliedCount
from producer.publishing.arguments import (
    batch_page_options,
    check_arguments,
    check_batch,
    check_ids,
    history_options,
    refusal_page_arguments,
    roll_options,
    rolls_arguments,
    search_arguments,
)
from producer.publishing.batches import SubmittedBatch
from producer.publishing.connection import check_timeout
from producer.publishing.lookups import results_page
from producer.publishing.polling import PollingProblem
from producer.schemas import Code, Kind, RequestStatus, StudentEnrollmentResponse, StudentResponse
from producer.waiting import SHORTEST_POLL, BatchWait, waits_for

_STUDENT = LookupKind(TaskName.STUDENT)


class AsyncEnrollmentClient(AsyncEnrollmentPlanner):
    """A client for one event loop: thousands of calls at once, with a handful of threads.

    Its arguments, methods and errors are those of `EnrollmentClient`, and each method does what the
    one of the same name does there. Calls at the same time share messages and reads of Redis.
    A call may be cancelled; what was published before stays published. In another event loop, or
    after a fork, methods raise RuntimeError.
    """

    _looks_up = True

    # --- waiting ------------------------------------------------------------------------------

    @verb
    async def wait(
        self,
        batch: SubmittedBatch | str,
        *,
        timeout: float = math.inf,
        on_status: Callable[[BatchStatus], None] | None = None,
        on_error: Callable[[EnrollmentError], None] | None = None,
    ) -> BatchStatus:
        """Wait until a batch is done, at most `timeout` seconds, and return its status."""
        check_timeout(timeout)
        check_batch(batch)
        waits = waits_for(batch, timeout)
        *_, status = [await self._follow(waiting, on_status, on_error) for waiting in waits]
        return await self._batch(status.batch_id) if status.books.rejected else status

    async def _follow(
        self,
        waiting: BatchWait,
        on_status: Callable[[BatchStatus], None] | None,
        on_error: Callable[[EnrollmentError], None] | None,
    ) -> BatchStatus:
        while (status := await self._poll(waiting, on_status, on_error)) is None:
            await asyncio.sleep(waiting.pause())
        return status

    async def _poll(
        self,
        waiting: BatchWait,
        on_status: Callable[[BatchStatus], None] | None,
        on_error: Callable[[EnrollmentError], None] | None,
    ) -> BatchStatus | None:
        """Look up a batch once, and return its status if it is done."""
        seconds = min(self.timeout, max(waiting.seconds_left, SHORTEST_POLL))
        try:
            status = await self._batch(waiting.batch_id, refusals=False, seconds=seconds)
            applied = None
            if (submitted := waiting.to_count(status)) is not None:
                applied = await self._count_applied(submitted, seconds)
        except BatchConflict as error:
            raise BatchCannotFinish(str(error)) from error
        except (BrokerUnavailable, LookupFailed, NoWorkerAnswered) as error:
            waiting.bear(error)
            if on_error is not None:
                on_error(error)
            return None
        if on_status is not None:
            on_status(status)
        return status if waiting.is_done(status, applied) else None

    @verb
    async def count_applied(self, batch: SubmittedBatch) -> int:
        """Return how many chunks of a submitted batch were applied."""
        return await self._count_applied(batch, self.timeout)

    async def _count_applied(self, batch: SubmittedBatch, seconds: float) -> int:
        count = AppliedCount(batch)
        for numbers in count.pages():
            arguments = [batch.batch_id, list(numbers)]
            ask = self._connection.ask(TaskName.CHUNKS, arguments, timeout=seconds)
            count.add(numbers, await ask)
        return count.total()

    # --- reading ------------------------------------------------------------------------------

    @verb
    async def status(self, request_id: str) -> RequestStatus:
        """Return the status of a request."""
        status: RequestStatus = await self._look_up_one(STATUS, request_id)
        return status

    @verb
    async def statuses(self, request_ids: Sequence[str]) -> list[RequestStatus]:
        """Return the status of each request, in the same order."""
        return await self._look_up(STATUS, request_ids)

    @verb
    async def batch(self, batch_id: str, *, refusals: bool = True) -> BatchStatus:
        """Return the status of a batch, with its refusals by cause."""
        return await self._batch(batch_id, refusals=refusals)

    async def _batch(
        self, batch_id: str, *, refusals: bool = True, seconds: float | None = None
    ) -> BatchStatus:
        kind = _batch_kind(refusals=refusals)
        status: BatchStatus = await self._look_up_one(kind, batch_id, seconds)
        return status

    @verb
    async def batches(
        self, batch_ids: Sequence[str], *, refusals: bool = True
    ) -> list[BatchStatus]:
        """Return the status of each batch, in the same order."""
        return await self._look_up(_batch_kind(refusals=refusals), batch_ids)

    @verb
    async def recent_batches(self, limit: int = 20) -> list[BatchStatus]:
        """Return the newest batches, at most `limit`, without their refusals."""
        check_arguments(limit=limit)
        batches: list[BatchStatus] = await self._ask(TaskName.RECENT_BATCHES, [limit])
        return batches

    @verb
    async def batch_page(
        self,
        limit: int = 20,
        *,
        cursor: tuple[datetime, str] | None = None,
        state: BatchState | str | None = None,
        kind: Kind | str | None = None,
        submitter: str | None = None,
    ) -> BatchPage:
        """Return one page of the list of batches, the newest first."""
        check_arguments(limit=limit)
        options = batch_page_options(cursor, state, kind, submitter)
        page: BatchPage = await self._ask(TaskName.RECENT_BATCHES, [limit], options)
        return page

    def refusals(self, batch_id: str) -> AsyncIterator[RefusedRecord]:
        """Return every refusal of a batch with its record, by line, for `async for`."""
        if self.closed:
            raise ClientClosed
        check_arguments(batch_id=batch_id)
        return self._all_refusals(batch_id)

    async def _all_refusals(self, batch_id: str) -> AsyncIterator[RefusedRecord]:
        after = (0, 0)
        while page := await self._refusals(batch_id, *after):
            for refused in page:
                yield refused
            after = (page[-1].line, page[-1].id)

    @verb
    async def _refusals(self, batch_id: str, line: int, after: int) -> list[RefusedRecord]:
        page: list[RefusedRecord] = await self._ask(TaskName.REFUSALS, [batch_id, line, after])
        return page

    @verb
    async def refusal_page(
        self,
        batch_id: str,
        *,
        after: tuple[int, int] = (0, 0),
        limit: int = 100,
        code: Code | str | None = None,
    ) -> list[RefusedRecord]:
        """Return a page of refusals, by line, each with the record and the cells of its line."""
        arguments, options = refusal_page_arguments(batch_id, after, limit, code)
        page: list[RefusedRecord] = await self._ask(TaskName.REFUSALS, arguments, options)
        return page

    @verb
    async def applied_chunks(self, batch_id: str, numbers: Sequence[int]) -> AppliedChunks:
        """Return which chunks of a batch are applied, with their fingerprints."""
        check_arguments(batch_id=batch_id)
        chunks: AppliedChunks = await self._ask(TaskName.CHUNKS, [batch_id, list(numbers)])
        return chunks

    @verb
    async def results(
        self,
        student: int | str,
        *,
        limit: int = 100,
        before: tuple[datetime, str] | None = None,
    ) -> list[StudentEnrollmentResponse]:
        """Return a student's newest results, at most `limit`, or those older than `before`."""
        check_arguments(limit=limit, before=before)
        if before is None:
            newest: list[StudentEnrollmentResponse]
            newest = await self._look_up_one(_results_kind(limit), student)
            return newest
        check_ids(TaskName.RESULTS, [student])
        cursor = [before[0].isoformat(), before[1]]
        options = {"limit": limit, "before": cursor}
        (older,) = await self._ask(TaskName.RESULTS, [[student]], options)
        return list(older)

    @verb
    async def results_of(
        self, students: Sequence[int | str], *, limit: int = 100
    ) -> list[list[StudentEnrollmentResponse]]:
        """Return each student's newest results, in the same order."""
        check_arguments(limit=limit)
        return await self._look_up(_results_kind(limit), students)

    @verb
    async def student(self, student: int | str) -> StudentResponse | None:
        """Return a student with courses, or None if there is none."""
        found: StudentResponse | None = await self._look_up_one(_STUDENT, student)
        return found

    @verb
    async def students(self, students: Sequence[int | str]) -> list[StudentResponse | None]:
        """Return students with their courses, in the same order."""
        return await self._look_up(_STUDENT, students)

    @verb
    async def find_students(self, text: str, *, limit: int = 20) -> FoundStudents:
        """Return at most `limit` students for a text, the best match first."""
        found: FoundStudents = await self._ask(
            TaskName.FIND_STUDENTS, *search_arguments(text, limit)
        )
        return found

    @verb
    async def find_courses(self, text: str, *, limit: int = 20) -> FoundCourses:
        """Return at most `limit` courses for a text, the best match first."""
        found: FoundCourses = await self._ask(TaskName.FIND_COURSES, *search_arguments(text, limit))
        return found

    @verb
    async def history(
        self,
        student: int | str,
        course: int | str | None = None,
        *,
        limit: int = 100,
        before: datetime | str | None = None,
    ) -> StudentHistory:
        """Return what happened to a student's enrollments, the latest moment first."""
        options = history_options(student, course, limit, before)
        history: StudentHistory = await self._ask(TaskName.HISTORY, [student], options)
        return history

    @verb
    async def roll(
        self,
        course: int | str,
        at: datetime | str | None = None,
        *,
        limit: int = MAX_LOOKUP,
        after: int = 0,
    ) -> CourseRoll | None:
        """Return who is enrolled in a course, or was at a moment; None if there is no such one."""
        options = roll_options(course, at, limit, after)
        roll: CourseRoll | None = await self._ask(TaskName.ROLL, [course], options)
        return roll

    def enrolled_students(
        self, course: int | str, at: datetime | str | None = None
    ) -> AsyncIterator[EnrolledStudent]:
        """Return every student who is enrolled in a course, or was, by key, for `async for`."""
        if self.closed:
            raise ClientClosed
        roll_options(course, at, MAX_LOOKUP, 0)
        return self._enrolled_students(course, at)

    async def _enrolled_students(
        self, course: int | str, at: datetime | str | None
    ) -> AsyncIterator[EnrolledStudent]:
        roll = await self.roll(course, at)
        while roll is not None:
            for student in roll.students:
                yield student
            roll = await self.roll(course, at, after=roll.students[-1].id) if roll.more else None

    @verb
    async def rolls(
        self, courses: Sequence[int | str], after: tuple[int, int] | None = None
    ) -> CourseRolls:
        """Return a part of some rolls, `after` the `next` of another."""
        part: CourseRolls = await self._ask(TaskName.ROLLS, *rolls_arguments(courses, after))
        return part

    @verb
    async def health(self) -> WorkerHealth:
        """Return a worker's report on itself and its database."""
        health: WorkerHealth = await self._ask(TaskName.HEALTH, [])
        return health

    @verb
    async def polling_problem(self) -> PollingProblem | None:
        """Return why each poll asks a worker, if that is so although a worker has answered."""
        return await self._connection.polling_problem()

    async def _look_up_one(
        self, kind: LookupKind, identifier: Any, seconds: float | None = None
    ) -> Any:
        """Look up one id, together with others of the same kind. Raises InvalidRequest."""
        check_ids(kind.task, [identifier])
        timeout = self.timeout if seconds is None else seconds
        return await self._connection.look_up(kind, identifier, timeout)

    async def _look_up(self, kind: LookupKind, ids: Sequence[Any]) -> list[Any]:
        """Look up any number of ids, a page at a time. Raises InvalidRequest."""
        ids = check_ids(kind.task, ids)
        known = await self._connection.known(kind, ids)
        missing = [identifier for identifier in ids if identifier not in known]
        answers: list[Any] = []
        for start in range(0, len(missing), kind.page):
            some_ids = missing[start : start + kind.page]
            answers += await self._ask(kind.task, [some_ids], dict(kind.options))
        others = iter(answers)
        return [known[i] if i in known else next(others) for i in ids]


def _batch_kind(*, refusals: bool) -> LookupKind:
    return LookupKind(TaskName.BATCH, (("refusals", refusals),))


def _results_kind(limit: int) -> LookupKind:
    return LookupKind(TaskName.RESULTS, (("limit", limit),), results_page(limit))
