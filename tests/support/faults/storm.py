"""A storm: requests without end, faults at random moments, and a plain model to compare with."""

import contextlib
import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, EnrollmentError
from producer.schemas import Kind
from support.faults import FAULTS
from support.faults.feed import Feed
from support.faults.kinds import Fault, Scene
from support.faults.report import (
    COURSES,
    STUDENTS,
    Report,
    Request,
    Roster,
    compare,
    compare_rosters,
    rows_of,
    stored_results,
)
from support.rosters import enter_roster
from support.waiting import wait_for

T = TypeVar("T")
MINUTE = 60
"""A fault that can last this many seconds happens only if it is named, and then alone."""

CORRECTED, ROSTER_LINES = 40, 60
"""How many students the rosters name, and how many lines each roster has."""

RECOVERY_SECONDS = 180
SECOND_FAULTS = ("kill_pool_process", "kill_worker", "terminate_worker", "deliver_again")
"""What can strike in the midst of another fault."""


class Pace:
    """Spreads a share of the work evenly over some seconds, which begin now."""

    def __init__(self, start: float, share: float, seconds: float) -> None:
        self._start = start
        self._share = share
        self._seconds = seconds
        self._began = time.monotonic()

    def share(self) -> float:
        """Return which share of all work may have been submitted by now."""
        passed = (time.monotonic() - self._began) / self._seconds
        return self._start + self._share * min(1, passed)


class Storm:
    """Submits while faults strike, and compares the database with a model at the end.

    Unless `alone`, a second fault strikes in the midst of every fourth that lasts, and a feed sends
    snapshots, dry runs, decisions and undos, whose requests the report does not count.
    """

    def __init__(self, scene: Scene, seed: int, *, alone: bool = False) -> None:
        self.scene = scene
        self._feed: Feed | None = None
        self._alone = alone
        self.report = Report(scene.fleet.database_url.partition(":")[0], seed)
        self.submitted: dict[str, Request] = {}
        self.batches: dict[str, list[Request]] = {}
        self.rosters: dict[str, Roster] = {}
        self._acknowledged: set[str] = set()
        self._over = threading.Event()
        self._deadline = float("inf")
        self._pace = Pace(0, 0, 1)
        url = scene.fleet.broker.url
        self._client = EnrollmentClient(url, timeout=20)
        self._submitting = EnrollmentClient(url, timeout=20)
        self._correcting = EnrollmentClient(url, timeout=20)
        self._small = EnrollmentClient(url, timeout=20)
        self._feeding = EnrollmentClient(url, timeout=20)

    def kinds(self) -> list[str]:
        """Return the faults that can happen here, except those that take a minute or more."""
        return [
            name
            for name, fault in FAULTS.items()
            if fault.possible(self.scene) and fault.seconds[1] < MINUTE
        ]

    # --- what is submitted ------------------------------------------------------------------

    def enter_roster(self) -> None:
        students = [f"S{n}" for n in range(STUDENTS)]
        enter_roster(self._client, students, [f"C{n}" for n in range(COURSES)])
        if not self._alone:
            self._feed = Feed(self._feeding, self.scene.fleet.database_url, self.report.seed)

    def _new_request(self, chance: random.Random, name: str) -> Request:
        # One in thirty names a student or a course that does not exist.
        courses = [
            f"C{n if chance.randrange(60) else n + COURSES}"
            for n in chance.sample(range(COURSES), chance.randrange(1, 5))
        ]
        # One in five drops some or all of its courses, and one in twenty counts earlier.
        drops = chance.randrange(1, len(courses) + 1) if chance.random() < 0.2 else 0
        request: Request = {
            "request_id": name,
            "student_id": f"S{chance.randrange(STUDENTS + 30)}",
            "course_ids": courses[drops:],
            "drop_course_ids": courses[:drops],
            "atomic": chance.random() < 0.7,
        }
        if chance.random() < 0.05:
            earlier = timedelta(seconds=chance.uniform(0, 300))
            request["as_of"] = (datetime.now(UTC) - earlier).isoformat()
        return request

    def submit_singles(self, count: int, seed: int) -> None:
        """Submit requests one by one; repeat each under its id until the broker has it."""
        chance = random.Random(seed)
        for number in range(count):
            request = self._new_request(chance, f"single-{seed}-{number}")
            self.submitted[request["request_id"]] = request
            self._submit(self._submitting, request)
            if not chance.randrange(50):  # The upstream sends it again.
                self._submit(self._submitting, request)
            self._wait_for_turn(number / count)

    def _submit(self, client: EnrollmentClient, request: Request) -> None:
        if self._repeat(lambda: client.submit(request)):
            self._acknowledged.add(request["request_id"])

    def _repeat(self, attempt: Callable[[], object]) -> bool:
        """Repeat until the broker accepts; return False some minutes after the last fault."""
        while time.monotonic() < self._deadline:
            with contextlib.suppress(EnrollmentError):
                attempt()
                return True
            time.sleep(0.2)
        return False

    def submit_batches(self, count: int, size: int, seed: int) -> None:
        chance = random.Random(seed + 1)
        for number in range(count):
            name = f"batch-{seed}-{number}"
            requests = [self._new_request(chance, f"{name}-{n}") for n in range(size)]
            self.batches[name] = requests
            self.submitted.update((request["request_id"], request) for request in requests)
            self._submit_batch(name)
            self._wait_for_turn(number / count)

    def submit_small_batches(self, count: int, seed: int) -> None:
        """Submit batches of one to three requests, as systems do that submit one for each event."""
        chance = random.Random(seed + 3)
        for number in range(count):
            name = f"small-{seed}-{number}"
            size = chance.randrange(1, 4)
            requests = [self._new_request(chance, f"{name}-{n}") for n in range(size)]
            self.submitted.update((request["request_id"], request) for request in requests)
            if self._repeat(partial(self._submit_small, requests)):
                self._acknowledged.update(request["request_id"] for request in requests)
            self._wait_for_turn(number / count)

    def _submit_small(self, requests: list[Request]) -> None:
        """Submit a batch without an id of its own; its new id is known once the broker has it."""
        batch = self._small.submit_batch(Kind.ENROLLMENTS, requests)
        self.batches[batch.batch_id] = requests

    def _submit_batch(self, name: str, *, resume: bool = False) -> None:
        requests = self.batches[name]
        if self._repeat(
            lambda: self._client.submit_batch(
                Kind.ENROLLMENTS,
                requests,
                batch_id=name,
                resume=resume,
                on_outage=self._raise_at_the_end,
            )
        ):
            self._acknowledged.update(request["request_id"] for request in requests)

    def _raise_at_the_end(self, error: BrokerUnavailable) -> None:
        if time.monotonic() > self._deadline:
            raise error

    def submit_rosters(self, count: int, seed: int) -> None:
        """Submit rosters that name the same few students again and again, also twice in one."""
        chance = random.Random(seed + 2)
        for number in range(count):
            name = f"roster-{seed}-{number}"
            self.rosters[name] = [
                {"sis_id": f"S{chance.randrange(CORRECTED)}"}
                | {
                    field: f"{field} {chance.randrange(10)} {name} {line}"
                    for field in ("name", "email")
                    if chance.random() < 0.6
                }
                for line in range(ROSTER_LINES)
            ]
            self._submit_roster(name)
            self._wait_for_turn(number / count)

    def _submit_roster(self, name: str, *, resume: bool = False) -> None:
        self._repeat(
            lambda: self._correcting.submit_batch(
                Kind.STUDENTS,
                self.rosters[name],
                batch_id=name,
                resume=resume,
                on_outage=self._raise_at_the_end,
            )
        )

    def submit_feed(self) -> None:
        """Submit the plans and undos of a feed until the faults are over, and finish the last."""
        if self._feed is not None:
            self._feed.submit(lambda: not self._over.is_set(), lambda: self._deadline)

    def _wait_for_turn(self, share: float) -> None:
        """Spread what is submitted over the faults that are to come."""
        while share > self._pace.share() and not self._over.is_set():
            time.sleep(0.02)

    # --- the run ----------------------------------------------------------------------------

    def run(self, faults: Sequence[str], singles: int, batches: int, size: int) -> Report:
        """Submit while the faults happen one after another; then repair everything, and compare.

        The fault `nothing` is a second in which nothing happens.
        """
        started = time.monotonic()
        seed = self.report.seed
        submitters = [
            threading.Thread(target=self.submit_singles, args=(singles, seed)),
            threading.Thread(target=self.submit_batches, args=(batches, size, seed)),
            threading.Thread(target=self.submit_rosters, args=(batches, seed)),
            threading.Thread(target=self.submit_small_batches, args=(singles // 3, seed)),
            threading.Thread(target=self.submit_feed),
        ]
        for submitter in submitters:
            submitter.start()
        try:
            for number, name in enumerate(faults):
                self._let_happen(name, number / len(faults), 1 / len(faults))
        except BaseException:
            traceback.print_exc()  # At once: the submitters may have to wait for long.
            raise
        finally:
            self._over.set()
            self._deadline = time.monotonic() + RECOVERY_SECONDS
            for submitter in submitters:
                submitter.join()
        self._deadline = time.monotonic() + 2 * RECOVERY_SECONDS
        self._recover()
        self._compare()
        self.report.seconds = round(time.monotonic() - started, 1)
        self._client.close()
        self._submitting.close()
        self._correcting.close()
        self._small.close()
        self._feeding.close()
        return self.report

    def _let_happen(self, name: str, share: float, own_share: float) -> None:
        """Let a fault happen while its share of the work is submitted, from before to after it."""
        if name == "nothing":
            self._pace = Pace(share, own_share, 1)
            time.sleep(1)
            return
        fault, strikes = FAULTS[name], self.report.faults
        # The choices depend on the kind and on how often it has struck, and on nothing else: they
        # are the same in a run with this kind alone.
        chance = self.scene.chance = random.Random(f"{self.report.seed} {name} {strikes[name]}")
        seconds = chance.uniform(*fault.seconds)
        second = chance.choice(SECOND_FAULTS) if chance.random() < 0.25 else None
        if self._alone or not 0 < seconds < MINUTE:
            second = None
        print(f"{time.strftime('%X')} {name} {seconds:.1f} s", second or "", flush=True)
        calm = chance.uniform(0.1, 0.8)
        self._pace = Pace(share, own_share, calm + seconds + 0.5)
        time.sleep(calm)
        with fault.strike(self.scene):
            time.sleep(seconds / 2)
            if second is not None:
                self._strike_within(FAULTS[second])
            time.sleep(seconds / 2)
        strikes[name] += 1

    def _strike_within(self, fault: Fault) -> None:
        with fault.strike(self.scene):
            self.report.faults[fault.name] += 1

    def _recover(self) -> None:
        """Wait until every request is decided; resubmit those that the broker lost."""
        self._wait_for_empty_queues()
        if not self.scene.loses_messages:
            return
        done = stored_results(self.scene.fleet.database_url).keys()
        missing = [name for name in self.submitted if name not in done]
        # The status must report them as lost, so that their submitter acts.
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self._seem_to_wait(missing), RECOVERY_SECONDS)
        self.report.unexplained += self._seem_to_wait(missing)
        for name, requests in self.batches.items():
            if any(request["request_id"] not in done for request in requests):
                self._submit_batch(name, resume=True)
        for name in self.rosters:
            self._submit_roster(name, resume=True)
        for name in missing:
            self.report.recovered += 1
            if name.startswith("single"):
                self._submit(self._client, self.submitted[name])
        self._wait_for_empty_queues()

    def _seem_to_wait(self, names: Sequence[str]) -> int:
        """Count the requests that are queued or running, as their status says."""
        return sum(state in ("queued", "running") for state in self._states(names))

    def _wait_for_empty_queues(self) -> None:
        with contextlib.suppress(AssertionError):  # The comparison says what is missing.
            wait_for(lambda: self.scene.fleet.broker.holds() == 0, RECOVERY_SECONDS)

    def _states(self, names: Sequence[str]) -> list[str]:
        statuses = self._look_up(lambda: self._client.statuses(names))
        return ["no answer"] * len(names) if statuses is None else [s.state for s in statuses]

    def _look_up(self, work: Callable[[], T]) -> T | None:
        """Look something up; return None if it fails three times."""
        for _ in range(3):
            with contextlib.suppress(EnrollmentError):
                return work()
        return None

    # --- the comparison ---------------------------------------------------------------------

    def _compare(self) -> None:
        report, scene = self.report, self.scene
        report.kinds = len(report.faults)
        report.requests, report.acknowledged = len(self.submitted), len(self._acknowledged)
        report.silent_lookups = scene.silent_lookups
        report.undecided = sum(state != "done" for state in self._states(list(self.submitted)))
        letters = compare(scene.fleet.database_url, self.submitted, report)
        keep_order = not scene.loses_messages
        compare_rosters(scene.fleet.database_url, self.rosters, report, keep_order=keep_order)
        if self._feed is not None:
            self._feed.compare(report)
        report.roster_records = sum(map(len, self.rosters.values()))
        report.unexplained += self._unbalanced_batches()
        for content in letters.keys() - scene.malformed:
            report.unexplained += 1
            print(f"unexpected dead letter: {letters[content]}: {content[:300]!r}")
        if not scene.loses_messages:
            report.lost += len(scene.malformed - letters.keys())

    def _unbalanced_batches(self) -> int:
        wrong = 0
        for name, records in [*self.batches.items(), *self.rosters.items()]:
            status = self._look_up(partial(self._client.batch, name, refusals=False))
            if status is None:
                wrong += 1
                continue
            books = status.books.model_dump()
            rows = sum(map(rows_of, records))
            received = books.pop("received")
            balanced = received == rows == sum(books.values()) and books["not_applied"] == 0
            wrong += not (balanced and status.state == "done" and status.requests == len(records))
        return wrong
