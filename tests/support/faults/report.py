"""What a storm did, and how the database compares with a plain model of the rules."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from support.databases import opened_database
from worker.dead_letters.repository import find_dead_letters
from worker.models import Batch, Course, EnrollmentResult, Student, StudentCourse
from worker.repository import find_keys

STUDENTS, COURSES = 1_000, 40
Request = dict[str, Any]


@dataclass
class Report:
    """What a storm did, and its result; the counters are those of Jepsen's total-queue."""

    database: str
    seed: int
    storm: str = ""
    """The name of its scene."""
    faults: Counter[str] = field(default_factory=Counter)
    kinds: int = 0
    requests: int = 0
    roster_records: int = 0
    """Corrections of students, beside the requests."""
    acknowledged: int = 0
    recovered: int = 0
    """Requests that were submitted again because the broker was made to lose them."""
    lost: int = 0
    """Missing rows, and malformed messages that did not become dead letters."""
    doubled: int = 0
    wrongly_refused: int = 0
    """Good rows and requests whose final result is a refusal."""
    undecided: int = 0
    """Requests without a final result."""
    unexpected: int = 0
    unexplained: int = 0
    """Results, counts, dead letters and states that differ from those of the model."""
    order_violations: int = 0
    """Fields of the roster that do not have the value of the latest record, and moments of batches
    that are not in the order of their submission."""
    silent_lookups: int = 0
    """Lookups that were not answered within five seconds, although another session's lock must
    not silence them."""
    dead_letters: int = 0
    seconds: float = 0.0

    def faulty(self) -> dict[str, int]:
        """Return the counters that must be 0 and are not."""
        names = (
            *("lost", "doubled", "wrongly_refused", "undecided", "unexpected", "unexplained"),
            *("order_violations", "silent_lookups"),
        )
        counters = {name: getattr(self, name) for name in names}
        counters["not acknowledged"] = self.requests - self.acknowledged
        return {name: count for name, count in counters.items() if count}


def expected_result(request: Request) -> tuple[str, list[str]]:
    """Apply the rules, written a second time without a database."""
    if int(request["student_id"][1:]) >= STUDENTS:
        return "rejected", []
    good = [course for course in request["course_ids"] if int(course[1:]) < COURSES]
    if len(good) == len(request["course_ids"]):
        return "enrolled", good
    if request["atomic"] or not good:
        return "rejected", []
    return "partial", good


def stored_results(database_url: str) -> dict[str, Any]:
    """Return the results that the database holds, by request id."""
    with opened_database(database_url) as database, database.reading() as connection:
        rows = connection.execute(select(*EnrollmentResult.__table__.columns)).all()
    return {row.request_id: row for row in rows}


def compare(database_url: str, submitted: dict[str, Request], report: Report) -> set[bytes]:
    """Compare results and rows with the model, and return what became a dead letter."""
    results = stored_results(database_url)
    with opened_database(database_url) as database, database.reading() as connection:
        students = find_keys(connection, Student, [f"S{n}" for n in range(STUDENTS)])
        courses = find_keys(connection, Course, [f"C{n}" for n in range(COURSES)])
        rows = connection.execute(select(StudentCourse.student_id, StudentCourse.course_id)).all()
        letters = find_dead_letters(connection)
    added: Counter[tuple[int, int]] = Counter()
    expected: set[tuple[int, int]] = set()
    for name, request in submitted.items():
        status, kept = expected_result(request)
        keys = [courses[course] for course in kept]
        expected |= {(students[request["student_id"]], key) for key in keys}
        result = results.get(name)
        if result is None:
            continue
        if missing := set(keys) - set(result.enrolled):
            report.wrongly_refused += len(missing)
        elif (result.status, result.enrolled) != (status, keys):
            report.unexplained += 1
        new = set(result.enrolled) - set(result.already)
        added.update((result.student_id, key) for key in new)
    there = {(row.student_id, row.course_id) for row in rows}
    report.lost += len(expected - there)
    report.unexpected += len(there - expected) + len(results.keys() - submitted.keys())
    # Every row was written by exactly one request, and that one says so.
    report.doubled += len(rows) - len(there)
    report.doubled += sum(count - 1 for count in added.values() if count > 1)
    report.unexplained += len(there - added.keys())
    report.dead_letters = len(letters)
    return {letter.content for letter in letters}


Roster = list[dict[str, str]]


def compare_rosters(
    database_url: str, rosters: dict[str, Roster], report: Report, *, keep_order: bool
) -> None:
    """Compare the students with what the latest record of each field says.

    `rosters` are in the order of their submission, which is that of their moments if `keep_order`:
    a batch that the broker lost together with its mark gets a new moment.
    """
    with opened_database(database_url) as database, database.reading() as connection:
        rows = connection.execute(select(Batch.id, Batch.moment)).all()
        stored = {row.sis_id: row for row in connection.execute(select(*Student.__table__.columns))}
    moments = {row.id: row.moment for row in rows}
    report.lost += len(rosters.keys() - moments.keys())
    in_order = [moments[name] for name in rosters if name in moments]
    if keep_order:
        report.order_violations += sum(a >= b for a, b in pairwise(in_order))
    latest: dict[tuple[str, str], tuple[Any, str]] = {}
    for name, records in rosters.items():
        for number, record in enumerate(records if name in moments else []):
            moment = moments[name] + timedelta(microseconds=number)
            for field_name, value in record.items():
                place = (record["sis_id"], field_name)
                latest[place] = max(latest.get(place, (moment, "")), (moment, value))
    for (sis_id, field_name), (_, value) in latest.items():
        report.order_violations += getattr(stored[sis_id], field_name) != value
