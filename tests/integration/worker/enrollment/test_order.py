"""Enrolls and drops in every order of delivery, against the plain model. On both databases."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from producer.contract.history import Change
from producer.schemas import Action, ResultStatus
from support.databases import store_roster
from support.order_model import Registry, enrolled_pairs
from worker.database.engine import Database
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.history.lookups import student_history
from worker.models import EnrollmentResult, PastEnrollment, StudentCourse
from worker.service import add_enrollments

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STUDENTS, COURSES = "AB", ("M1", "M2", "M3")


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def request(
    name: str, student: str, minute: int, enroll: Iterable[str] = (), drop: Iterable[str] = ()
) -> IncomingRequest:
    record: dict[str, Any] = {
        "request_id": name,
        "student_id": student,
        "course_ids": list(enroll),
        "drop_course_ids": list(drop),
    }
    return read_request(name, [record], {}, at(minute))


def deliver(database: Database, requests: Sequence[IncomingRequest]) -> list[Any]:
    decided = add_enrollments(database, requests, clock=lambda: at(60)).decided
    return [decision.result for decision in decided]


def pairs(database: Database) -> set[tuple[str, str]]:
    with database.reading() as connection:
        rows = connection.execute(select(StudentCourse.student_id, StudentCourse.course_id))
        return {(STUDENTS[student - 1], COURSES[course - 1]) for student, course in rows}


def forget(database: Database) -> None:
    with database.writing() as connection:
        for model in (StudentCourse, PastEnrollment, EnrollmentResult):
            connection.execute(delete(model))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_enroll_drop_enroll_ends_enrolled_in_every_order(
    database: Database, order: tuple[int, ...]
) -> None:
    requests = [
        request("r0", "A", 1, enroll=["M1"]),
        request("r1", "A", 2, drop=["M1"]),
        request("r2", "A", 3, enroll=["M1"]),
    ]
    for position in order * 2:
        deliver(database, [requests[position]])
    assert pairs(database) == {("A", "M1")}


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[IncomingRequest]]:
    """Return requests that are delivered twice each, in any order and in groups of any size."""
    lists = st.lists(st.sampled_from(COURSES), unique=True, max_size=3)
    contents = st.tuples(st.sampled_from(STUDENTS), st.integers(0, 6), lists, lists)
    requests = []
    for number, (student, minute, enroll, drop) in enumerate(draw(st.lists(contents, max_size=8))):
        dropped = [course for course in drop if course not in enroll]
        if enroll or dropped:
            requests.append(request(f"r{number}", student, minute, enroll, dropped))
    delivered = draw(st.permutations(requests * 2))
    groups = []
    while delivered:
        size = draw(st.integers(1, len(delivered)))
        groups.append(delivered[:size])
        delivered = delivered[size:]
    return groups


def actions(requests: Iterable[IncomingRequest]) -> list[tuple[Action, tuple[str, str], datetime]]:
    listed = []
    for incoming in requests:
        asked, moment = incoming.request, incoming.moment
        assert asked is not None
        assert moment is not None
        for action, courses in (
            (Action.ENROLL, asked.course_ids),
            (Action.DROP, asked.drop_course_ids),
        ):
            listed += [(action, (str(asked.student_id), str(c)), moment) for c in courses]
    return listed


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(groups=deliveries())
def test_the_latest_request_wins_whatever_the_order_of_delivery(
    database: Database, groups: list[list[IncomingRequest]]
) -> None:
    forget(database)
    registry = Registry()
    seen: set[str] = set()
    for group in groups:
        results = deliver(database, group)
        new = []
        for incoming in sorted(group, key=lambda each: each.moment or NOON):
            if incoming.request_id not in seen:
                seen.add(incoming.request_id)
                new.append(incoming)
        registry.apply(actions(new))
        assert pairs(database) == set(registry.open)
        assert ResultStatus.REJECTED not in {result.status for result in results}
        assert past(database) == registry.past
    everything = [incoming for group in groups for incoming in group]
    assert pairs(database) == enrolled_pairs(actions(everything))
    assert set(chain.from_iterable(map(partial(rebuilt, database), STUDENTS))) == pairs(database)


def rebuilt(database: Database, student: str) -> set[tuple[str, str]]:
    """Return a student's pairs as the history tells them, read one moment at a time."""
    enrolled: set[tuple[str, str]] = set()
    before, pages = None, []
    while (page := student_history(database, student, limit=1, before=before)).entries:
        pages.append(page.entries)
        before = page.entries[-1].moment
        assert before is not None
    whole = student_history(database, student, limit=1_000)
    assert not whole.more
    assert list(chain.from_iterable(pages)) == list(whole.entries)
    for entry in reversed(whole.entries):
        assert entry.course is not None
        pair = (student, str(entry.course.sis_id))
        if entry.change is Change.ENROLLED:
            assert pair not in enrolled
            enrolled.add(pair)
        elif entry.change is Change.DROPPED:
            enrolled.remove(pair)
    return enrolled


def past(database: Database) -> dict[tuple[tuple[str, str], datetime], datetime | None]:
    with database.reading() as connection:
        rows = connection.execute(select(PastEnrollment))
        return {
            ((STUDENTS[row.student_id - 1], COURSES[row.course_id - 1]), row.ended_at): (
                row.enrolled_at
            )
            for row in rows
        }
