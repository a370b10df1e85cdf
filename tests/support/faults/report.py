"""What a storm did, and how the database compares with a plain model of the rules."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from producer.schemas import Action
from support.databases import opened_database
from support.derived import all_results
from support.order_model import enrolled_pairs
from worker.dead_letters.repository import find_dead_letters
from worker.models import (
    Batch,
    Course,
    Pair,
    PastEnrollment,
    Student,
    StudentCourse,
)
from worker.repository import find_keys

STUDENTS, COURSES = 1_000, 40
FEED_PREFIX = "night-"
"""What the ids of the feed's batches and requests have; they are compared apart."""
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
    """Pairs that are not as the latest request asked, fields of the roster that do not have the
    value of the latest record, and moments that are not those of the submission."""
    silent_lookups: int = 0
    """Lookups that were not answered within five seconds, although another session's lock must
    not silence them."""
    wrongly_dropped: int = 0
    """Enrollments that the last snapshot names, or that were made by hand, and that are gone."""
    nights: int = 0
    """Snapshots of the feed that were submitted, dry runs included."""
    held: int = 0
    """Those that waited for a decision."""
    undone: int = 0
    """Undos of the feed, those of undos and of what still ran included."""
    uncertain: int = 0
    """Pairs of the feed that may be enrolled, because two orders of decisions are right."""
    dead_letters: int = 0
    drops: int = 0
    """Enrollments that ended."""
    seconds: float = 0.0

    def faulty(self) -> dict[str, int]:
        """Return the counters that must be 0 and are not."""
        names = (
            *("lost", "doubled", "wrongly_refused", "undecided", "unexpected", "unexplained"),
            *("order_violations", "silent_lookups", "wrongly_dropped"),
        )
        counters = {name: getattr(self, name) for name in names}
        counters["not acknowledged"] = self.requests - self.acknowledged
        return {name: count for name, count in counters.items() if count}


def rows_of(record: Request) -> int:
    """Return how many rows a request or a roster record has."""
    rows = len(record.get("course_ids", ())) + len(record.get("drop_course_ids", ()))
    return rows or 1


def accepted(request: Request) -> list[tuple[Action, str]]:
    """Return what is accepted of a request, by the rules, written a second time."""
    asked = [(Action.ENROLL, course) for course in request["course_ids"]]
    asked += [(Action.DROP, course) for course in request["drop_course_ids"]]
    good = [(action, course) for action, course in asked if int(course[1:]) < COURSES]
    is_refused = int(request["student_id"][1:]) >= STUDENTS
    return [] if is_refused or (request["atomic"] and len(good) < len(asked)) else good


def expected_status(request: Request, result: Any) -> str:
    """Return the status of a request, from what its result says about its courses."""
    if len(accepted(request)) < rows_of(request):
        return "partial" if accepted(request) else "rejected"
    statuses = {
        (True, True): "changed",
        (True, False): "enrolled",
        (False, True): "dropped",
        (False, False): "superseded",
    }
    return statuses[bool(result.enrolled), bool(result.dropped)]


def decided_courses(result: Any) -> set[tuple[Action, int]]:
    """Return the courses that a result names, with what was asked for."""
    return {
        *((Action.ENROLL, key) for key in result.enrolled),
        *((Action.DROP, key) for key in result.dropped or ()),
        *((Action(action), key) for key, action, _ in result.superseded or ()),
    }


def stored_results(database_url: str) -> dict[str, Any]:
    """Return the results that the database holds or derives, by request id, except the feed's."""
    with opened_database(database_url) as database:
        results = {row.request_id: row for row in all_results(database)}
    return {name: row for name, row in results.items() if FEED_PREFIX not in name}


def compare(database_url: str, submitted: dict[str, Request], report: Report) -> dict[bytes, str]:
    """Compare results and rows with the model; return what became a dead letter, and why."""
    results = stored_results(database_url)
    with opened_database(database_url) as database, database.reading() as connection:
        students = find_keys(connection, Student, [f"S{n}" for n in range(STUDENTS)])
        courses = find_keys(connection, Course, [f"C{n}" for n in range(COURSES)])
        # The courses of the feed are compared apart.
        own = courses.values()
        rows = connection.execute(
            select(StudentCourse.student_id, StudentCourse.course_id).where(
                StudentCourse.course_id.in_(own)
            )
        ).all()
        ended = connection.execute(
            select(PastEnrollment.student_id, PastEnrollment.course_id).where(
                PastEnrollment.enrolled_at.is_not(None), PastEnrollment.course_id.in_(own)
            )
        ).all()
        letters = find_dead_letters(connection)
    begun: Counter[Pair] = Counter()
    removed: Counter[Pair] = Counter()
    asked: list[tuple[Action, Pair, datetime]] = []
    for name, request in submitted.items():
        result = results.get(name)
        if result is None:
            continue
        wanted = {(action, courses[course]) for action, course in accepted(request)}
        decided = decided_courses(result)
        report.wrongly_refused += len(wanted - decided)
        if wanted == decided and result.status != expected_status(request, result):
            report.unexplained += 1
        own_time = request.get("as_of")
        report.order_violations += own_time is not None and (
            result.moment != datetime.fromisoformat(own_time)
        )
        student = result.student_id
        begun.update((student, key) for key in set(result.enrolled) - set(result.already))
        gone = set(result.dropped or ()) - set(result.not_enrolled or ())
        removed.update((student, key) for key in gone)
        key = students.get(request["student_id"])
        asked += [(action, (key, course), result.moment) for action, course in wanted if key]
    there = {(row.student_id, row.course_id) for row in rows}
    expected = enrolled_pairs(asked)
    dropped = {pair for action, pair, _ in asked if action is Action.DROP}
    differing = there ^ expected
    report.order_violations += len(differing & dropped)
    report.lost += len(expected - there - dropped)
    report.unexpected += len(there - expected - dropped)
    report.unexpected += len(results.keys() - submitted.keys())
    # Every row was written by exactly one request, every one that ended was ended by one, and the
    # results say which.
    report.doubled += len(rows) - len(there)
    left = Counter(begun)
    left.subtract(removed)
    report.doubled += sum(count > 1 for count in left.values())
    report.unexplained += len({pair for pair, count in left.items() if count > 0} ^ there)
    report.unexplained += Counter((row.student_id, row.course_id) for row in ended) != removed
    report.drops = sum(removed.values())
    report.dead_letters = len(letters)
    return {letter.content: f"{letter.reason}: {letter.detail}" for letter in letters}


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
