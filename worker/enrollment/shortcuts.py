"""Enroll the clean requests of a chunk at once, for speed alone."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker.database.engine import Database
from worker.database.errors import is_conflict
from worker.enrollment.repository import add_enrolled, enroll_at_once
from worker.enrollment.results import _response
from worker.enrollment.rules import Asked, Decided, Decisions, _result
from worker.models import Course, Student
from worker.repository import enroll_students_in_courses, find_keys


class Plain(NamedTuple):
    """What became of the requests of a chunk about which there was nothing to decide."""

    requests: int
    rows: int
    added: int
    """Rows that were not there before."""
    left: list[int]
    """The places of those about which there is something to decide."""


def _enroll_at_once(database: Database, asked: Asked, answered: Sequence[bool]) -> Decisions | None:
    """Enroll a request about which there is nothing to decide, by one statement.

    The outcome is what `settle` would make of it. Returns None, and has done nothing, where there
    is something to decide, where another transaction decided it or changed the roster meanwhile,
    and on SQLite.
    """
    request = asked.request
    if request is None or asked.problems or database.engine.dialect.name != "postgresql":
        return None
    now = datetime.now(UTC)
    try:
        with database.one_by_one() as connection:
            done = enroll_at_once(
                connection,
                asked.request_id,
                asked.fingerprint(),
                request.student_id,
                request.course_ids,
                now,
            )
    except DBAPIError as error:
        if not is_conflict(error):
            raise
        return None
    if done is None:
        return None
    enrolled = [course.id for course in done.courses]
    result = _result(asked, done.student, enrolled, done.already, (), None, now)
    described = dict(zip(enrolled, done.courses, strict=True))
    answers = [_response(one, described) for one in compress([result], answered)]
    return Decisions([Decided(asked, result)], answers)


def settle_plain(
    connection: Connection,
    ids: Sequence[str],
    student_ids: Sequence[int | str | None],
    course_ids: Sequence[Sequence[int | str]],
    atomic: Sequence[bool],
    batch_id: str,
    now: datetime,
) -> Plain | None:
    """Enroll all at once those requests of a chunk whose student and courses are all found.

    `ids` are made of the chunk's number, and nothing was decided under them. Each outcome is what
    `settle` would make of it; the other requests, and those without a student, are left to that.
    Returns None, and does nothing, where the requests are not independent: a row is asked for
    twice, so that their order matters, or what is left has rows to write, which then belong into
    the order of all rows.
    """
    students = find_keys(connection, Student, student_ids)
    courses = find_keys(connection, Course, chain.from_iterable(course_ids))
    keys = [students.get(student_id) for student_id in student_ids]
    found = [[courses[c] for c in wanted if c in courses] for wanted in course_ids]
    left = [
        place
        for place, (key, of_one, wanted) in enumerate(zip(keys, found, course_ids, strict=True))
        if key is None or len(of_one) < len(wanted)
    ]
    for place in left:
        if keys[place] is not None and found[place] and not atomic[place]:
            return None
        found[place] = []
    none: list[int] = []
    every = zip(ids, keys, student_ids, found, repeat(none), strict=False)
    # In the order of an index of the outcomes, and nearly in that of the rows.
    outcomes = sorted([one for one in every if one[3]], key=itemgetter(1))
    pairs = [(key, c) for _, key, _, of_one, _ in outcomes if key is not None for c in of_one]
    if len(set(pairs)) < len(pairs):
        return None
    added = enroll_students_in_courses(connection, pairs, now)
    if len(added) < len(pairs):
        new = set(added)
        outcomes = [
            (*one[:4], [c for c in one[3] if (one[1], c) not in new] if new else one[3])
            for one in outcomes
        ]
    add_enrolled(connection, outcomes, batch_id, now)
    return Plain(len(outcomes), len(pairs), len(added), left)
