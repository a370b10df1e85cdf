"""Name the tasks and the queues, and map each task to its queue."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from producer.schemas import Kind


class Queue(StrEnum):
    """The queues; a worker serves all of them by default."""

    ENROLLMENTS = "enrollments"
    BATCHES = "batches"
    LOOKUPS = "lookups"
    DECISIONS = "decisions"
    """Apart from the others: the right to publish does not include that to decide about plans."""


class TaskName(StrEnum):
    """The fixed names of the tasks, for Celery clients in any language."""

    ENROLL = "enrollment.enroll"
    ENROLL_BATCH = "enrollment.enroll_batch"
    UPSERT_STUDENTS = "roster.upsert_students"
    UPSERT_COURSES = "roster.upsert_courses"
    STATUS = "enrollment.status"
    RESULTS = "enrollment.results"
    STUDENT = "enrollment.student"
    HISTORY = "enrollment.history"
    ROLL = "enrollment.roll"
    ROLLS = "enrollment.rolls"
    FIND_STUDENTS = "enrollment.find_students"
    FIND_COURSES = "enrollment.find_courses"
    BATCH = "enrollment.batch"
    CHUNKS = "enrollment.chunks"
    REFUSALS = "enrollment.refusals"
    HEALTH = "enrollment.health"
    RECENT_BATCHES = "enrollment.recent_batches"
    PLAN = "enrollment.plan"
    PLANNED_DROPS = "enrollment.planned_drops"
    DECIDE = "enrollment.decide"
    REHEARSE_UNDO = "enrollment.rehearse_undo"
    UNDO = "enrollment.undo"


QUORUM: Final = {"x-queue-type": "quorum"}
"""The arguments for declaring the queues if RabbitMQ is the broker."""

TASK_QUEUES: Final[Mapping[TaskName, Queue]] = {
    TaskName.ENROLL: Queue.ENROLLMENTS,
    TaskName.ENROLL_BATCH: Queue.BATCHES,
    TaskName.UPSERT_STUDENTS: Queue.BATCHES,
    TaskName.UPSERT_COURSES: Queue.BATCHES,
    TaskName.STATUS: Queue.LOOKUPS,
    TaskName.RESULTS: Queue.LOOKUPS,
    TaskName.STUDENT: Queue.LOOKUPS,
    TaskName.HISTORY: Queue.LOOKUPS,
    TaskName.ROLL: Queue.LOOKUPS,
    TaskName.ROLLS: Queue.LOOKUPS,
    TaskName.FIND_STUDENTS: Queue.LOOKUPS,
    TaskName.FIND_COURSES: Queue.LOOKUPS,
    TaskName.BATCH: Queue.LOOKUPS,
    TaskName.CHUNKS: Queue.LOOKUPS,
    TaskName.REFUSALS: Queue.LOOKUPS,
    TaskName.HEALTH: Queue.LOOKUPS,
    TaskName.RECENT_BATCHES: Queue.LOOKUPS,
    TaskName.PLAN: Queue.LOOKUPS,
    TaskName.PLANNED_DROPS: Queue.LOOKUPS,
    TaskName.DECIDE: Queue.DECISIONS,
    TaskName.REHEARSE_UNDO: Queue.DECISIONS,
    TaskName.UNDO: Queue.DECISIONS,
}


KIND_TASKS: Final[Mapping[Kind, TaskName]] = {
    Kind.STUDENTS: TaskName.UPSERT_STUDENTS,
    Kind.COURSES: TaskName.UPSERT_COURSES,
    Kind.ENROLLMENTS: TaskName.ENROLL_BATCH,
}
