"""Define the client: it publishes requests and batches, and looks up their status and results.

The client connects only to the broker (and to the Redis of result keys). It never reads the
database: every read is a lookup, which a worker answers.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from producer.call_log import verb
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
    EnrollmentError,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.fields import MAX_LOOKUP
from producer.files.formats.comparison import Comparison
from producer.files.submitted import OpenedFile
from producer.planner import EnrollmentPlanner
from producer.publishing.applied import count_applied
from producer.publishing.arguments import (
    batch_page_options,
    check_arguments,
    check_batch,
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


class EnrollmentClient(EnrollmentPlanner):
    """A client that submits requests and batches over the queue; threads may share one.

    Without a URL, the client uses the broker that the commands would use: that of the variable
    ENROLL_BROKER_URL, with those for the result backend and the key prefix, or else that of the
    `enroll up` in the folder ENROLL_FOLDER, or that runs in this folder or one above it.

    For a Redis with sentinels, the broker is `sentinel://HOST:PORT,HOST:PORT/0?master_name=NAME`.
    With a `rediss://` or `sentinels://` URL, the server's certificate is checked against the
    authorities in `ssl_ca_certs=FILE` from the URL's query, or by default against the system's.

    `timeout` is the longest wait for a worker's answer, in seconds; `math.inf` is allowed.
    `key_prefix` is the prefix of the deployment's keys in Redis, if it has one. The constructor
    raises ValueError for an invalid URL, prefix or timeout, and BrokerNotFound.

    If the broker cannot be used, every method raises BrokerUnavailable within ten seconds. If an
    answer cannot be understood, the method raises LookupFailed. An id or a limit that breaks the
    contract raises InvalidRequest before anything is sent.
    """

    # --- waiting ------------------------------------------------------------------------------

    @verb
    def wait(
        self,
        batch: SubmittedBatch | str,
        *,
        timeout: float = math.inf,
        on_status: Callable[[BatchStatus], None] | None = None,
        on_error: Callable[[EnrollmentError], None] | None = None,
    ) -> BatchStatus:
        """Wait until a batch is done, at most `timeout` seconds, and return its status.

        `batch` is a batch id, or what `submit_batch` or `submit_file` returned; then the wait is
        for exactly these chunks. For a package, it waits for all batches, and returns the status of
        the last one. An outage of the broker or the database is waited out for up to ten minutes.
        The wait for a planned batch also ends when its state is `planned`, `held` or `discarded`.
        `on_status` is called with each status, and `on_error` with each error that is waited out.

        Raises InvalidRequest for an invalid id, and BatchNotDone when the time is up. Raises
        BatchCannotFinish if the batch is unknown, or if a part of it cannot be applied unless
        somebody acts. Raises NoWorkerAnswered if no worker answers, or if the batch makes no
        progress for ten minutes.
        """
        check_timeout(timeout)
        check_batch(batch)
        waits = waits_for(batch, timeout)
        *_, status = [self._follow(waiting, on_status, on_error) for waiting in waits]
        if not status.books.rejected:
            return status
        return self._lookups.batches([status.batch_id], self.timeout, refusals=True)[0]

    def _follow(
        self,
        waiting: BatchWait,
        on_status: Callable[[BatchStatus], None] | None,
        on_error: Callable[[EnrollmentError], None] | None,
    ) -> BatchStatus:
        while (status := self._poll(waiting, on_status, on_error)) is None:
            time.sleep(waiting.pause())
        return status

    def _poll(
        self,
        waiting: BatchWait,
        on_status: Callable[[BatchStatus], None] | None,
        on_error: Callable[[EnrollmentError], None] | None,
    ) -> BatchStatus | None:
        """Look up a batch once, and return its status if it is done."""
        seconds = min(self.timeout, max(waiting.seconds_left, SHORTEST_POLL))
        try:
            (status,) = self._lookups.batches([waiting.batch_id], seconds, refusals=False)
            applied = None
            if (submitted := waiting.to_count(status)) is not None:
                applied = count_applied(self._connection, submitted, seconds)
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
    def count_applied(self, batch: SubmittedBatch) -> int:
        """Return how many chunks of a submitted batch were applied. Raises NoWorkerAnswered.

        The batch is complete when this is `batch.chunks`. Raises BatchConflict if a different
        submission under the same batch id was applied, even in part, in place of this one: the
        state of the batch may then be `done` although records of this submission are not stored.
        """
        return count_applied(self._connection, batch, self.timeout)

    # --- reading ------------------------------------------------------------------------------

    def status(self, request_id: str) -> RequestStatus:
        """Return the status of a request. Raises NoWorkerAnswered."""
        return self.statuses([request_id])[0]

    @verb
    def statuses(self, request_ids: Sequence[str]) -> list[RequestStatus]:
        """Return the status of each request, in the same order. Raises NoWorkerAnswered.

        A worker is asked only about requests that Redis does not know.
        """
        return self._lookups.requests(request_ids, self.timeout)

    def batch(self, batch_id: str, *, refusals: bool = True) -> BatchStatus:
        """Return the status of a batch, with its refusals by cause. Raises NoWorkerAnswered."""
        return self.batches([batch_id], refusals=refusals)[0]

    @verb
    def batches(self, batch_ids: Sequence[str], *, refusals: bool = True) -> list[BatchStatus]:
        """Return the status of each batch, in the same order. Raises NoWorkerAnswered.

        The counts of a batch that is not done may be a second old.
        """
        return self._lookups.batches(batch_ids, self.timeout, refusals=refusals)

    @verb
    def recent_batches(self, limit: int = 20) -> list[BatchStatus]:
        """Return the newest batches, at most `limit`, without their refusals.

        They are those of the first `batch_page`, with their columns and forms; `limit` is at most
        1,000. Raises NoWorkerAnswered.
        """
        check_arguments(limit=limit)
        batches: list[BatchStatus] = self._ask(TaskName.RECENT_BATCHES, [limit])
        return batches

    @verb
    def batch_page(
        self,
        limit: int = 20,
        *,
        cursor: tuple[datetime, str] | None = None,
        state: BatchState | str | None = None,
        kind: Kind | str | None = None,
        submitter: str | None = None,
    ) -> BatchPage:
        """Return one page of the list of batches, the newest first. Raises NoWorkerAnswered.

        `state`, `kind` and `submitter` select batches. To get the next page, pass the `next` of a
        page as `cursor`, with the same options, until `next` is None. A batch that was listed when
        the first page was read is on exactly one page, whatever arrives in the meantime; one that
        arrives later is on at most one. A page has at most `limit` batches. It may have fewer, or
        none, although more follow: a worker examines a limited number of batches to find those in
        a state.

        A batch is listed once one of its chunks was applied or became a dead letter. As long as
        all of its chunks are dead letters, its kind and its submitter are unknown.
        """
        check_arguments(limit=limit)
        options = batch_page_options(cursor, state, kind, submitter)
        page: BatchPage = self._ask(TaskName.RECENT_BATCHES, [limit], options)
        return page

    @verb
    def refusals(self, batch_id: str) -> Iterator[RefusedRecord]:
        """Return every refusal of a batch with its record, by line. Raises NoWorkerAnswered."""
        check_arguments(batch_id=batch_id)
        return self._refusals(batch_id)

    def _refusals(self, batch_id: str) -> Iterator[RefusedRecord]:
        after: tuple[int, int] | None = (0, 0)
        while after is not None:
            page: list[RefusedRecord] = self._ask(TaskName.REFUSALS, [batch_id, *after])
            yield from page
            after = (page[-1].line, page[-1].id) if page else None

    @verb
    def refusal_page(
        self,
        batch_id: str,
        *,
        after: tuple[int, int] = (0, 0),
        limit: int = 100,
        code: Code | str | None = None,
    ) -> list[RefusedRecord]:
        """Return a page of refusals, by line, each with the record and the cells of its line.

        With `code`, only those for this cause. For the next page, pass the `line` and the `id` of
        the last refusal as `after`, until a page is empty. A page has at most `limit` refusals; it
        has fewer if they are long. Raises NoWorkerAnswered.
        """
        arguments, options = refusal_page_arguments(batch_id, after, limit, code)
        page: list[RefusedRecord] = self._ask(TaskName.REFUSALS, arguments, options)
        return page

    @verb
    def applied_chunks(self, batch_id: str, numbers: Sequence[int]) -> AppliedChunks:
        """Return which chunks of a batch are applied, with their fingerprints.

        Raises NoWorkerAnswered.
        """
        check_arguments(batch_id=batch_id)
        chunks: AppliedChunks = self._ask(TaskName.CHUNKS, [batch_id, list(numbers)])
        return chunks

    @verb
    def results(
        self,
        student: int | str,
        *,
        limit: int = 100,
        before: tuple[datetime, str] | None = None,
    ) -> list[StudentEnrollmentResponse]:
        """Return a student's newest results, at most `limit`. Raises NoWorkerAnswered.

        `before` is the `completed_at` and `request_id` of a result; only older results are
        returned.
        """
        check_arguments(limit=limit, before=before)
        cursor = {} if before is None else {"before": [before[0].isoformat(), before[1]]}
        page, options = results_page(limit), {"limit": limit, **cursor}
        (newest_results,) = self._lookups.ask(
            TaskName.RESULTS, [student], self.timeout, page, options
        )
        return list(newest_results)

    @verb
    def results_of(
        self, students: Sequence[int | str], *, limit: int = 100
    ) -> list[list[StudentEnrollmentResponse]]:
        """Return each student's newest results, in the same order. Raises NoWorkerAnswered."""
        check_arguments(limit=limit)
        page, options = results_page(limit), {"limit": limit}
        return self._lookups.ask(TaskName.RESULTS, students, self.timeout, page, options)

    def student(self, student: int | str) -> StudentResponse | None:
        """Return a student with courses, or None if there is none. Raises NoWorkerAnswered."""
        return self.students([student])[0]

    @verb
    def students(self, students: Sequence[int | str]) -> list[StudentResponse | None]:
        """Return students with their courses, in the same order. Raises NoWorkerAnswered."""
        return self._lookups.ask(TaskName.STUDENT, students, self.timeout)

    @verb
    def find_students(self, text: str, *, limit: int = 20) -> FoundStudents:
        """Return at most `limit` students for a text, the best match first.

        They have the text as SIS id or e-mail address, or all of its words in their names, whatever
        the case and the order. Raises NoWorkerAnswered, and LookupFailed if it takes too long.
        """
        arguments = search_arguments(text, limit)
        found: FoundStudents = self._ask(TaskName.FIND_STUDENTS, *arguments)
        return found

    @verb
    def find_courses(self, text: str, *, limit: int = 20) -> FoundCourses:
        """Return courses for a text, by SIS id or the words of their titles: see find_students."""
        arguments = search_arguments(text, limit)
        found: FoundCourses = self._ask(TaskName.FIND_COURSES, *arguments)
        return found

    @verb
    def history(
        self,
        student: int | str,
        course: int | str | None = None,
        *,
        limit: int = 100,
        before: datetime | str | None = None,
    ) -> StudentHistory:
        """Return what happened to a student's enrollments, the latest moment first.

        With `course`, only what was changed or superseded in this course is returned, without
        refusals; with `before`, a moment with its time zone, only what counts earlier. At least
        `limit` entries are returned if there are so many, because entries of one moment stay
        together. If `more` is true, ask again `before` the moment of the last entry. Raises
        NoWorkerAnswered.
        """
        options = history_options(student, course, limit, before)
        history: StudentHistory = self._ask(TaskName.HISTORY, [student], options)
        return history

    @verb
    def roll(
        self,
        course: int | str,
        at: datetime | str | None = None,
        *,
        limit: int = MAX_LOOKUP,
        after: int = 0,
    ) -> CourseRoll | None:
        """Return who is enrolled in a course, or was at a moment; None if there is no such course.

        At most `limit` students are returned, in the order of their keys and after the key `after`.
        If `more` is true, ask again `after` the key of the last one, or use `enrolled_students`.
        Raises NoWorkerAnswered.
        """
        options = roll_options(course, at, limit, after)
        roll: CourseRoll | None = self._ask(TaskName.ROLL, [course], options)
        return roll

    @verb
    def enrolled_students(
        self, course: int | str, at: datetime | str | None = None
    ) -> Iterator[EnrolledStudent]:
        """Return every student who is enrolled in a course, or was at a moment, by key.

        A course that does not exist has no students. Without `at`, students who are enrolled or
        dropped meanwhile may be missing or listed. Raises NoWorkerAnswered.
        """
        roll_options(course, at, MAX_LOOKUP, 0)
        return self._enrolled_students(course, at)

    def _enrolled_students(
        self, course: int | str, at: datetime | str | None
    ) -> Iterator[EnrolledStudent]:
        roll = self.roll(course, at)
        while roll is not None:
            yield from roll.students
            roll = self.roll(course, at, after=roll.students[-1].id) if roll.more else None

    @verb
    def rolls(
        self, courses: Sequence[int | str], after: tuple[int, int] | None = None
    ) -> CourseRolls:
        """Return a part of some rolls, `after` the `next` of another. Raises NoWorkerAnswered."""
        args, options = rolls_arguments(courses, after)
        part: CourseRolls = self._ask(TaskName.ROLLS, args, options)
        return part

    @verb
    def health(self) -> WorkerHealth:
        """Return a worker's report on itself and its database. Raises NoWorkerAnswered."""
        health: WorkerHealth = self._ask(TaskName.HEALTH, [])
        return health

    def _compared(self, opened: OpenedFile) -> Comparison | None:
        return opened.compared(self._connection.ask, self.timeout)

    @verb
    def polling_problem(self) -> PollingProblem | None:
        """Return why each poll asks a worker, if that is so although a worker has answered."""
        return self._connection.polling_problem()
