"""A storm: requests without end, faults at random moments, and a plain model to compare with."""

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import select

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, EnrollmentError
from producer.schemas import Kind
from support.databases import opened_database
from support.fleet import Fleet
from support.malformed import shapes
from support.rosters import enter_roster
from support.waiting import wait_for
from worker.dead_letters.repository import find_dead_letters
from worker.models import Course, EnrollmentResult, Student, StudentCourse
from worker.repository import find_keys

STUDENTS, COURSES = 1_000, 40
Request = dict[str, Any]


@dataclass
class Report:
    """What a storm did and with what result; the counters are those of Jepsen's total-queue."""

    database: str
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    acknowledged: int = 0
    recovered: int = 0
    lost: int = 0
    doubled: int = 0
    unexpected: int = 0
    unexplained: int = 0
    dead_letters: int = 0
    seconds: float = 0.0


class Storm:
    """Submits while faults strike; `postgres` restarts the server of the database, if any."""

    def __init__(self, fleet: Fleet, seed: int, postgres: Callable[[], None] | None = None) -> None:
        self.fleet = fleet
        self.chance = random.Random(seed)
        self.report = Report(fleet.database_url.partition(":")[0], seed)
        self.asked: dict[str, Request] = {}
        self.batches: dict[str, list[Request]] = {}
        self.malformed: set[bytes] = set()
        self._postgres = postgres
        self._over = threading.Event()
        self._wiped = False
        self._client = EnrollmentClient(fleet.broker.url, timeout=20)
        self._submitting = EnrollmentClient(fleet.broker.url, timeout=20)

    # --- what is asked for ------------------------------------------------------------------

    def enter_roster(self) -> None:
        students = [f"S{n}" for n in range(STUDENTS)]
        enter_roster(self._client, students, [f"C{n}" for n in range(COURSES)])

    def _new_request(self, chance: random.Random, name: str) -> Request:
        # One in thirty names a student or a course that does not exist.
        courses = chance.sample(range(COURSES), chance.randrange(1, 5))
        return {
            "request_id": name,
            "student_id": f"S{chance.randrange(STUDENTS + 30)}",
            "course_ids": [f"C{n if chance.randrange(60) else n + COURSES}" for n in courses],
            "atomic": chance.random() < 0.7,
        }

    def submit_singles(self, count: int, seed: int) -> None:
        """Submit requests one by one; repeat each under its id until the broker has it."""
        chance = random.Random(seed)
        for number in range(count):
            request = self._new_request(chance, f"single-{seed}-{number}")
            self.asked[request["request_id"]] = request
            while True:
                with contextlib.suppress(BrokerUnavailable):
                    self._submitting.submit(request)
                    if not chance.randrange(50):  # The upstream sends it again.
                        self._submitting.submit(request)
                    break
                time.sleep(0.2)
            self._pace(number / count)

    def submit_batches(self, count: int, size: int, seed: int) -> None:
        chance = random.Random(seed + 1)
        for number in range(count):
            name = f"batch-{seed}-{number}"
            requests = [self._new_request(chance, f"{name}-{n}") for n in range(size)]
            self.batches[name] = requests
            self.asked.update((request["request_id"], request) for request in requests)
            self._submit_batch(self._client, name)
            self._pace(number / count)

    def _submit_batch(self, client: EnrollmentClient, name: str, *, resume: bool = False) -> None:
        while True:
            with contextlib.suppress(EnrollmentError):
                client.submit_batch(
                    Kind.ENROLLMENTS,
                    self.batches[name],
                    batch_id=name,
                    resume=resume,
                    on_outage=lambda _: None,
                )
                return
            time.sleep(0.2)

    def _pace(self, share: float) -> None:
        """Spread what is submitted over the faults that are to come."""
        while share > self._progress and not self._over.is_set():
            time.sleep(0.05)

    # --- what strikes -----------------------------------------------------------------------

    def _nothing(self) -> None:
        time.sleep(1)

    def _kill_pool_process(self) -> None:
        pool = self.fleet.any_worker(self.chance).pool()
        if pool:
            with contextlib.suppress(Exception):
                self.chance.choice(pool).kill()

    def _kill_worker(self) -> None:
        worker = self.fleet.any_worker(self.chance)
        worker.kill()
        self.fleet.replace(worker)

    def _kill_main_process(self) -> None:
        worker = self.fleet.any_worker(self.chance)
        worker.process.kill()
        worker.process.wait()
        self.fleet.replace(worker)

    def _terminate_worker(self) -> None:
        worker = self.fleet.any_worker(self.chance)
        worker.process.terminate()
        if self.chance.random() < 0.5:
            time.sleep(self.chance.random())
            worker.kill()
        else:
            worker.end()
        self.fleet.replace(worker)

    def _terminate_group(self) -> None:
        worker = self.fleet.any_worker(self.chance)
        worker.signal_group(signal.SIGTERM)
        worker.end()
        self.fleet.replace(worker)

    def _kill_while_taking(self) -> None:
        worker = self.fleet.any_worker(self.chance)
        worker.signal_group(signal.SIGSTOP)
        time.sleep(0.3)  # In the meantime, Redis moves a message to the frozen worker.
        worker.kill()
        self.fleet.replace(worker)

    def _stop_beyond_lease(self) -> None:
        worker = self.fleet.any_worker(self.chance)
        worker.signal_group(signal.SIGSTOP)
        time.sleep(11)
        worker.signal_group(signal.SIGCONT)

    def _restart_broker(self) -> None:
        self.fleet.broker.kill()
        time.sleep(self.chance.random())
        self.fleet.broker.start()

    def _wipe_broker(self) -> None:
        self._wiped = True
        self.fleet.broker.wipe()

    def _cut_connections(self) -> None:
        self.fleet.broker.cut_connections()

    def _cut_proxy(self) -> None:
        self.fleet.name.cut()

    def _silence_proxy(self) -> None:
        with self.fleet.name.silent():
            time.sleep(self.chance.uniform(1, 4))

    def _freeze_broker(self, seconds: float = 5) -> None:
        with self.fleet.broker.frozen():
            time.sleep(seconds)

    def _freeze_broker_for_a_minute(self) -> None:
        self._freeze_broker(60)

    def _freeze_broker_for_two_minutes(self) -> None:
        self._freeze_broker(120)

    def _fill_broker(self) -> None:
        with self.fleet.broker.full():
            time.sleep(self.chance.uniform(0.5, 2))

    def _forbid_writing(self) -> None:
        with self.fleet.broker.read_only():
            time.sleep(self.chance.uniform(0.5, 2))

    def _deliver_again(self) -> None:
        """Copy the next message of each queue, so that it is delivered two to five times."""
        redis = self.fleet.broker.redis
        for queue in ("enrollments", "batches"):
            waiting = redis.lindex(queue, -1)
            if waiting is not None:
                redis.rpush(queue, *[waiting] * self.chance.randrange(1, 5))

    def _shuffle(self) -> None:
        """Reorder the messages: the oldest becomes the newest."""
        for _ in range(20):
            self.fleet.broker.redis.lmove("enrollments", "enrollments", "RIGHT", "LEFT")

    def _push_malformed(self) -> None:
        raw = self.chance.choice(list(shapes().values()))
        self.malformed.add(raw)
        self.fleet.broker.redis.lpush(self.chance.choice(["enrollments", "batches"]), raw)

    def _terminate_backends(self) -> None:
        with psycopg.connect(self.fleet.database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def _restart_postgres(self) -> None:
        assert self._postgres is not None
        self._postgres()

    def kinds(self) -> list[str]:
        """Return the faults that can happen here, except those that require resubmission."""
        kinds = [
            *("kill_pool_process", "kill_worker", "kill_main_process", "terminate_worker"),
            *("terminate_group", "kill_while_taking", "stop_beyond_lease", "restart_broker"),
            *("cut_connections", "cut_proxy", "silence_proxy", "fill_broker", "freeze_broker"),
            *("forbid_writing", "deliver_again", "shuffle", "push_malformed"),
        ]
        if self._postgres is not None:
            kinds += ["terminate_backends", "restart_postgres"]
        return kinds

    # --- the run ----------------------------------------------------------------------------

    def run(self, faults: list[str], singles: int, batches: int, size: int) -> Report:
        """Submit while the faults happen one after another; then repair everything, and compare."""
        started = time.monotonic()
        self._progress = 0.0
        seed = self.report.seed
        submitters = [
            threading.Thread(target=self.submit_singles, args=(singles, seed)),
            threading.Thread(target=self.submit_batches, args=(batches, size, seed)),
        ]
        for submitter in submitters:
            submitter.start()
        try:
            for number, kind in enumerate(faults, 1):
                self._progress = number / len(faults)
                time.sleep(self.chance.uniform(0, 1))
                getattr(self, f"_{kind}")()
                self.report.faults[kind] += 1
        finally:
            self._over.set()
            for submitter in submitters:
                submitter.join()
        self._recover()
        self._compare()
        self.report.seconds = round(time.monotonic() - started, 1)
        self._client.close()
        self._submitting.close()
        return self.report

    def _recover(self) -> None:
        """Wait until every request is decided; resubmit those that the broker lost."""
        wait_for(lambda: self.fleet.broker.holds() == 0, 180)
        if not self._wiped:
            return
        done = set(self._outcomes())
        for name, requests in self.batches.items():
            if any(request["request_id"] not in done for request in requests):
                self._submit_batch(self._client, name, resume=True)
        for name, request in self.asked.items():
            if name.startswith("single") and name not in done:
                self.report.recovered += 1
                self._client.submit(request)
        wait_for(lambda: self.fleet.broker.holds() == 0, 180)

    def _outcomes(self) -> dict[str, Any]:
        with (
            opened_database(self.fleet.database_url) as database,
            database.reading() as connection,
        ):
            rows = connection.execute(select(*EnrollmentResult.__table__.columns)).all()
        return {row.request_id: row for row in rows}

    def _compare(self) -> None:
        report, outcomes = self.report, self._outcomes()
        report.requests = report.acknowledged = len(self.asked)
        report.lost = len(self.asked.keys() - outcomes.keys())
        report.unexpected = len(outcomes.keys() - self.asked.keys())
        expected_pairs: set[tuple[str, str]] = set()
        with (
            opened_database(self.fleet.database_url) as database,
            database.reading() as connection,
        ):
            students = find_keys(connection, Student, [f"S{n}" for n in range(STUDENTS)])
            courses = find_keys(connection, Course, [f"C{n}" for n in range(COURSES)])
            rows = connection.execute(
                select(StudentCourse.student_id, StudentCourse.course_id)
            ).all()
            letters = find_dead_letters(connection)
        added: Counter[tuple[int, int]] = Counter()
        for name, request in self.asked.items():
            status, kept = self._model(request)
            expected_pairs |= {(request["student_id"], course) for course in kept}
            outcome = outcomes.get(name)
            if outcome is None:
                continue
            keys = [courses[course] for course in kept]
            if (outcome.status, outcome.enrolled) != (status, keys):
                report.unexplained += 1
            new = [key for key in outcome.enrolled if key not in outcome.already]
            added.update((outcome.student_id, key) for key in new)
        expected = {(students[s], courses[c]) for s, c in expected_pairs}
        there = {(row.student_id, row.course_id) for row in rows}
        report.lost += len(expected - there)
        report.unexpected += len(there - expected)
        # Every row was written by exactly one request, and that one says so.
        report.doubled = sum(count - 1 for count in added.values() if count > 1)
        report.unexplained += len(there - added.keys())
        report.unexplained += self._unbalanced_batches()
        report.dead_letters = len(letters)
        kept_letters = {letter.content for letter in letters}
        report.unexplained += len(kept_letters - self.malformed)
        if not self._wiped:
            report.lost += len(self.malformed - kept_letters)

    def _model(self, request: Request) -> tuple[str, list[str]]:
        """Apply the rules, written a second time without a database."""
        if int(request["student_id"][1:]) >= STUDENTS:
            return "rejected", []
        good = [course for course in request["course_ids"] if int(course[1:]) < COURSES]
        if len(good) == len(request["course_ids"]):
            return "enrolled", good
        if request["atomic"] or not good:
            return "rejected", []
        return "partial", good

    def _unbalanced_batches(self) -> int:
        wrong = 0
        for name, requests in self.batches.items():
            status = self._client.batch(name, refusals=False)
            books = status.books.model_dump()
            rows = sum(len(request["course_ids"]) for request in requests)
            received = books.pop("received")
            balanced = received == rows == sum(books.values()) and books["not_applied"] == 0
            wrong += not (balanced and status.state == "done" and status.requests == len(requests))
        return wrong
