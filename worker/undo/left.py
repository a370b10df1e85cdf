"""List the pairs that an undo leaves as they are, with the requests that decide them."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from producer.fields import UNDO_PREFIX
from producer.schemas import Action
from worker.enrollment.repository import summarize_courses
from worker.repository import describe_students
from worker.undo.repository import find_confirmation, find_drop, find_superseded
from worker.undo.values import LeftPair

MAX_LEFT: Final = 100
"""The most pairs that a report of an undo lists."""


def find_left(
    connection: Connection, undo_id: str, limit: int = MAX_LEFT, number: int | None = None
) -> list[LeftPair]:
    """Return the first pairs for which a later request won, of one chunk of an undo, or of all."""
    rows = find_superseded(connection, undo_id, number, limit)
    left = [(row.student_id, *each) for row in rows for each in row.superseded][:limit]
    students = {row.id: row for row in describe_students(connection, {each[0] for each in left})}
    courses = summarize_courses(connection, {each[1] for each in left})
    undone = undo_id.removeprefix(UNDO_PREFIX)
    pairs = []
    for student, course, asked, won_at in left:
        action, moment = Action(asked), datetime.fromisoformat(won_at)
        pair = (student, course)
        if action is Action.ENROLL:
            request_id = find_drop(connection, pair, moment)
        else:
            request_id = find_confirmation(connection, pair, moment, undone)
        named = (student, students[student].sis_id, course, courses[course].sis_id)
        pairs.append(LeftPair(*named, action, moment, request_id))
    return pairs
