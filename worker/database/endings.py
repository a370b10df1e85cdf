"""End thousands of enrollments at once, on PostgreSQL, in as little time as possible.

While a transaction drops, no other can enroll, so what can be prepared is prepared before.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from worker.models import Instant, Pair


class DroppedCourses(NamedTuple):
    """A request of a chunk that drops courses: the end of its id, its student and its courses."""

    position: str
    student: int
    courses: Sequence[int]


class PreparedDrops(NamedTuple):
    """Thousands of pairs to drop at one moment, ready for `end_at_once`."""

    values: dict[str, Any]
    pairs: int
    is_dense: bool
    """True if nearly all students from the first to the last are named."""


def prepare_drops(
    requests: Sequence[DroppedCourses], prefix: str, moment: datetime, reason: str | None = None
) -> PreparedDrops:
    """Prepare drops that share a reason, if they have one, before the lock is taken.

    Each pair is named once, and the requests are in the order of their students. `prefix` is the
    beginning of all request ids.
    """
    first, last = requests[0].student, requests[-1].student
    values = {
        "students": _repeated((str(request.student), request) for request in requests),
        "positions": _repeated((request.position, request) for request in requests),
        "courses": f"{{{','.join([str(request.courses)[1:-1] for request in requests])}}}",
        "prefix": prefix,
        "moment": moment,
        "reason": reason,
        "first": first,
        "last": last,
    }
    pairs = sum(len(request.courses) for request in requests)
    return PreparedDrops(values, pairs, last - first < 2 * len(requests))


def end_at_once(connection: Connection, drops: PreparedDrops) -> set[Pair]:
    """End open enrollments, on PostgreSQL; return the pairs that were not enrolled.

    It does for thousands of pairs what `end_enrollments` does.
    """
    if drops.is_dense:
        # Reading all rows of these students in one scan is faster than looking for each pair. The
        # planner cannot know that.
        connection.execute(_NESTED_LOOPS, {"value": "off"})
        count = connection.scalar(_END_DENSE, drops.values)
        connection.execute(_NESTED_LOOPS, {"value": "on"})
    else:
        count = connection.scalar(_END_AT_ONCE, drops.values)
    if count == drops.pairs:
        return set()
    rows = connection.execute(_NOT_ENDED, drops.values)
    return {(student, course) for student, course in rows}


def _repeated(values: Iterable[tuple[str, DroppedCourses]]) -> str:
    """Return an array literal with each value once for each course of its request."""
    return f"{{{','.join([f'{value},' * (len(r.courses) - 1) + value for value, r in values])}}}"


_NESTED_LOOPS = text("SELECT set_config('enable_nestloop', :value, true)")
_SOURCE = """unnest(CAST(:students AS int[]), CAST(:courses AS int[]), CAST(:positions AS int[]))
    AS source (student_id, course_id, position)"""


def _end_statement(condition: str) -> Any:
    return text(
        f"""
        WITH ended AS (
            DELETE FROM student_courses enrolled USING {_SOURCE}
            WHERE enrolled.student_id = source.student_id
                AND enrolled.course_id = source.course_id
                AND enrolled.enrolled_at < :moment {condition}
            RETURNING enrolled.student_id, enrolled.course_id, enrolled.enrolled_at,
                enrolled.chunk, enrolled.position, enrolled.data_set,
                source.position AS dropped_by
        ), kept AS (
            INSERT INTO past_enrollments (
                student_id, course_id, ended_at, enrolled_at, reason, request_id, chunk, position,
                data_set
            )
            SELECT student_id, course_id, :moment, enrolled_at, CAST(:reason AS text),
                CAST(:prefix AS text) || dropped_by, chunk, position, data_set
            FROM ended
        )
        SELECT count(*) FROM ended
        """  # noqa: S608 - our own names
    ).bindparams(bindparam("moment", type_=Instant()))


_END_AT_ONCE = _end_statement("")
_END_DENSE = _end_statement("AND enrolled.student_id BETWEEN :first AND :last")
_NOT_ENDED = text(
    f"""
    SELECT source.student_id, source.course_id FROM {_SOURCE}
    WHERE NOT EXISTS (
        SELECT 1 FROM past_enrollments past
        WHERE past.student_id = source.student_id AND past.course_id = source.course_id
            AND past.ended_at = :moment
            AND past.request_id = CAST(:prefix AS text) || source.position
    )
    """  # noqa: S608 - our own names
).bindparams(bindparam("moment", type_=Instant()))
