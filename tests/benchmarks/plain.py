"""What the benchmark compares with: a task that does nothing, and enrollment as usually written.

The usual way is one Celery task for each request, with the ORM and a transaction of its own. It is
written fairly: one query for the courses, one for the rows that are there, one commit.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.rig import ENROLL, NOOP
from worker.database.engine import make_engine
from worker.messaging.celery_settings import celery_settings
from worker.models import Course, Student, StudentCourse
from worker.settings import Settings

app = Celery("plain")
# The same settings, but with what Celery itself brings for taking messages and looking at them.
own = ("broker_transport", "worker_consumer")
app.conf.update(
    {name: value for name, value in celery_settings(Settings()).items() if name not in own}
)
app.conf.task_create_missing_queues = True  # One that our own workers do not take from.


@cache
def sessions() -> "sessionmaker[Session]":
    return sessionmaker(make_engine(os.environ["ENROLL_DATABASE_URL"]))


@app.task(name=NOOP)
def noop() -> None:
    """Do nothing."""


@app.task(name=ENROLL)
def enroll(student_id: str, course_ids: Sequence[str]) -> dict[str, object]:
    with sessions().begin() as session:
        student = session.scalar(select(Student).where(Student.sis_id == student_id))
        courses = session.scalars(select(Course).where(Course.sis_id.in_(course_ids))).all()
        if student is None or len(courses) < len(course_ids):
            return {"status": "rejected"}
        there = select(StudentCourse.course_id).where(StudentCourse.student_id == student.id)
        enrolled = set(session.scalars(there))
        session.add_all(
            StudentCourse(student_id=student.id, course_id=course.id, enrolled_at=datetime.now(UTC))
            for course in courses
            if course.id not in enrolled
        )
        return {"status": "enrolled", "courses": [course.sis_id for course in courses]}
