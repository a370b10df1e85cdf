"""A feed that sends snapshots while faults strike, and a plain model of what they mean."""

import contextlib
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from producer.client import EnrollmentClient
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.errors import BatchCannotFinish, BatchNotDone, EnrollmentError
from producer.schemas import Kind
from support.databases import opened_database
from support.faults.report import FEED_PREFIX, Report
from support.rosters import enter_roster
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.models import Course, Student, StudentCourse

DATA_SET = "sis:storm"
STUDENTS, COURSES = 60, 3
BY_HAND = 5
"""Students whose enrollments are made by single requests: no snapshot may drop them."""

Pair = tuple[str, str]


class Feed:
    """Submits snapshots one after another; each is applied or discarded before the next one.

    The model is `enrolled`: the pairs that are enrolled once all that was submitted is decided.
    """

    def __init__(self, client: EnrollmentClient, database_url: str, seed: int) -> None:
        self._client = client
        self._url = database_url
        self._chance = random.Random(f"feed {seed}")
        students = [f"F{n}" for n in range(STUDENTS + BY_HAND)]
        self._courses = [f"NIGHT-{n}" for n in range(COURSES)]
        self._pairs = [(s, c) for s in students[:STUDENTS] for c in self._courses]
        self._by_hand = {(s, self._courses[0]) for s in students[STUDENTS:]}
        self.enrolled: set[Pair] = set()
        self.held = self.nights = self.unfinished = 0
        enter_roster(client, students, self._courses)
        with opened_database(database_url) as database, database.writing() as connection:
            allow_snapshots(connection, data_set_key(connection, DATA_SET, datetime.now(UTC)))
        for student, course in self._by_hand:
            request = {"student_id": student, "course_ids": [course]}
            client.enroll(request | {"request_id": f"{FEED_PREFIX}{student}"}, timeout=60)

    def send_nights(self, go_on: Callable[[], bool], until: Callable[[], float]) -> None:
        """Submit night after night; give up on a night at the time that `until` returns."""
        while go_on():
            self.nights += 1
            if not self._night(f"{FEED_PREFIX}{self.nights}", until):
                self.unfinished += 1
                return

    def _night(self, name: str, until: Callable[[], float]) -> bool:
        """Submit a snapshot, decide about it if it is held; return whether it came to an end."""
        wanted = self._wanted()
        decision = self._chance.choice(list(Decision))
        is_report = self._chance.random() < 0.2
        plan = PlanRequest(
            id=name,
            members=(PlanMember(batch_id=name, kind=Kind.ENROLLMENTS),),
            purpose=PlanPurpose.REPORT if is_report else PlanPurpose.APPLY,
            snapshot=True,
        )
        about: dict[str, Any] = {"plan": plan, "data_set": DATA_SET, "batch_id": name}
        records = [{"student_id": s, "course_ids": [c]} for s, c in sorted(wanted)]
        was_held = False
        while time.monotonic() < until():
            with contextlib.suppress(EnrollmentError):
                status = self._client.plan(name)
                if status.state is PlanState.HELD:
                    was_held = True
                    self._client.decide(name, decision, status.digest or "")
                elif status.state in (PlanState.DONE, PlanState.PLANNED, PlanState.DISCARDED):
                    self.held += was_held
                    self._note(wanted, status, is_report=is_report)
                    return True
                elif status.state in (PlanState.UNKNOWN, PlanState.STAGED):
                    # Repeated: a fault may have lost a part of it.
                    self._client.submit_batch(Kind.ENROLLMENTS, records, **about)
                with contextlib.suppress(BatchNotDone, BatchCannotFinish):
                    self._client.wait(name, timeout=2)
            time.sleep(0.2)
        return False

    def _wanted(self) -> set[Pair]:
        """Return what the file of a night names: a little or much differs from the last one."""
        chance = self._chance
        lost = chance.choice([0, 0, 0.02, 0.02, 0.5, 0.9])
        kept = {pair for pair in sorted(self.enrolled) if chance.random() >= lost}
        return kept | set(chance.sample(self._pairs, chance.randrange(10))) or {self._pairs[0]}

    def _note(self, wanted: set[Pair], status: PlanStatus, *, is_report: bool) -> None:
        if status.state is PlanState.DONE:
            self.enrolled = wanted
        assert is_report is (status.state is PlanState.PLANNED)

    def compare(self, report: Report) -> None:
        """Compare what is stored with the model."""
        statement = (
            select(Student.sis_id, Course.sis_id)
            .join(StudentCourse, StudentCourse.student_id == Student.id)
            .join(Course, Course.id == StudentCourse.course_id)
            .where(Course.sis_id.in_(self._courses))
        )
        with opened_database(self._url) as database, database.reading() as connection:
            there: Any = {(row[0], row[1]) for row in connection.execute(statement)}
        expected = self.enrolled | self._by_hand
        report.wrongly_dropped += len(expected - there)
        report.unexpected += len(there - expected)
        report.unexplained += self.unfinished
        report.nights, report.held = self.nights, self.held
