"""A feed that submits, plans, decides and undoes while faults strike, and its comparison."""

import contextlib
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from producer.client import EnrollmentClient
from producer.errors import EnrollmentError
from producer.fields import MAX_CHUNK_RECORDS
from producer.schemas import Action, Kind
from support.databases import opened_database
from support.faults.feed_work import DATA_SET, FeedWork, request_of
from support.faults.nights import Nights
from support.faults.report import FEED_PREFIX, Report
from support.rosters import enter_roster
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.models import Course, Student, StudentCourse
from worker.undo.run import rehearse
from worker.undo.start import undo_id_of
from worker.undo.values import CannotUndo

STUDENTS, COURSES = 60, 3
LONG_COURSES = 40
"""Courses of batches that have several chunks."""

BY_HAND = 5
"""Students whose enrollments are made by single requests: no snapshot may drop them."""

MAX_UNDOS = 3
"""How often an undo is undone."""


class Feed:
    """Submits snapshots, dry runs, batches and undos; each comes to its end before the next one."""

    def __init__(self, client: EnrollmentClient, database_url: str, seed: int) -> None:
        self._work = work = FeedWork(client, database_url, seed)
        self._students = [f"F{n}" for n in range(STUDENTS)]
        by_hand = [f"H{n}" for n in range(BY_HAND)]
        nightly = [f"NIGHT-{n}" for n in range(COURSES)]
        self._long = [f"LONG-{n}" for n in range(LONG_COURSES)]
        self._courses = [*nightly, *self._long]
        self._pairs = [(s, c) for s in self._students for c in nightly]
        self._nights = Nights(work, self._pairs)
        self._unfinished = 0
        enter_roster(client, [*self._students, *by_hand], self._courses)
        with opened_database(database_url) as database, database.writing() as connection:
            allow_snapshots(connection, data_set_key(connection, DATA_SET, datetime.now(UTC)))
        for student in by_hand:
            pair, name = (student, nightly[0]), f"{FEED_PREFIX}{student}"
            client.enroll(request_of(name, Action.ENROLL, pair), timeout=60)
            work.model.batch(name, work.next_number(), {pair}, set(), owned=False)

    def submit(self, go_on: Callable[[], bool], until: Callable[[], float]) -> None:
        """Submit one thing after another; give up on one at the time that `until` returns."""
        self._work.until = until
        kinds = [self._nights.submit, self._batch, self._stopped_batch, self._undo]
        while go_on():
            (submit_next,) = self._work.chance.choices(kinds, [6, 2, 1, 3])
            is_finished = submit_next()
            print(f"{time.strftime('%X')} feed: {submit_next.__name__} has ended", flush=True)
            if not is_finished:
                self._unfinished += 1
                return

    def _batch(self) -> bool:
        """Submit a small batch of enrolls and drops; return whether it came to an end."""
        work, chance = self._work, self._work.chance
        name = work.next_name()
        sample = chance.sample(self._pairs, 2 * chance.randrange(1, 10))
        enrolled, dropped = set(sample[::2]), set(sample[1::2])
        is_owned = chance.random() < 0.5
        records: list[dict[str, Any]] = [
            *({"student_id": s, "course_ids": [c]} for s, c in sorted(enrolled)),
            *({"student_id": s, "drop_course_ids": [c]} for s, c in sorted(dropped)),
        ]
        options = {"data_set": DATA_SET} if is_owned else {}
        if not work.persist(lambda: work.submit(name, records, **options)):
            return False
        work.model.batch(name, work.number, enrolled, dropped, owned=is_owned)
        work.to_undo.append(name)
        return True

    def _stopped_batch(self) -> bool:
        """Submit a batch of several chunks, and undo it at once; return whether that ended."""
        work, chance = self._work, self._work.chance
        name = work.next_name()
        courses = chance.sample(self._long, LONG_COURSES // 2)
        verb = chance.choice(["course_ids", "drop_course_ids"])
        times = 2 * MAX_CHUNK_RECORDS // (STUDENTS * len(courses)) + 1
        records = [{"student_id": s, verb: courses} for s in self._students] * times

        def is_undone() -> bool:
            if work.is_undone(name):
                # What was on its way is refused, and the batch comes to its end.
                return work.submit(name, records)
            work.client.submit_batch(Kind.ENROLLMENTS, records, batch_id=name)
            with contextlib.suppress(CannotUndo):  # None of its chunks is applied yet.
                work.undo(name)
            return False

        if not work.persist(is_undone):
            return False
        pairs = {(s, c) for s in self._students for c in courses}
        enrolled, dropped = (pairs, pairs - pairs)[:: 1 if verb == "course_ids" else -1]
        work.model.stopped(name, work.number, enrolled, dropped, owned=False)
        work.to_undo.append(undo_id_of(name))
        return True

    def _undo(self) -> bool:
        """Undo something that was done at any time before; return whether that ended."""
        work = self._work
        if not work.to_undo:
            return True
        name = work.to_undo.pop(work.chance.randrange(len(work.to_undo)))
        planned = None
        if work.chance.random() < 0.5:
            with contextlib.suppress(DBAPIError), opened_database(work.url) as database:
                planned = rehearse(database, name).counts
        if not work.persist(lambda: work.undo(name)):
            return False
        undo_id = undo_id_of(name)
        with contextlib.suppress(EnrollmentError):
            books = work.client.batch(undo_id).books
            done = {"dropped": books.dropped, "enrolled": books.enrolled}
            if planned is not None and any(planned[key] != done[key] for key in done):
                work.wrong(f"the undo of {name} was to do {planned}, and did {done}")
        work.model.undo(name)
        if undo_id.count(":") < MAX_UNDOS:
            work.to_undo.append(undo_id)
        return True

    def compare(self, report: Report) -> None:
        """Compare what is stored with the model."""
        statement = (
            select(Student.sis_id, Course.sis_id, StudentCourse.data_set)
            .join(StudentCourse, StudentCourse.student_id == Student.id)
            .join(Course, Course.id == StudentCourse.course_id)
            .where(Course.sis_id.in_(self._courses))
        )
        with opened_database(self._work.url) as database, database.reading() as connection:
            rows: Iterable[Any] = connection.execute(statement).all()
        there = {(student, course): owner is not None for student, course, owner in rows}
        model = self._work.model
        lost, added = model.must() - there.keys(), there.keys() - model.must() - model.may()
        owned_wrongly = {
            pair for pair, is_owned in there.items() if model.states[pair].owned is (not is_owned)
        }
        print(f"the feed lacks {lost}, has {added}, and owns wrongly {owned_wrongly}", flush=True)
        report.wrongly_dropped += len(lost)
        report.unexpected += len(added)
        report.unexplained += len(owned_wrongly) + self._unfinished + self._work.unexplained
        report.nights, report.held = self._nights.nights, self._nights.held
        report.undone, report.uncertain = self._work.undone, len(model.may())
