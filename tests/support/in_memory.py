"""Hand single requests and chunks to a worker in memory, and read what it stored."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from producer.contract.batches import Books, RefusedRecord
from producer.contract.history import CourseRoll, StudentHistory
from producer.contract.lookups import RESULT_TYPES
from producer.contract.routing import KIND_TASKS, TaskName
from producer.schemas import Kind, StudentEnrollmentResponse
from producer.testing.worker import MemoryWorker

STUDENTS = ["A", "B", "C"]
COURSES = ["X", "Y", "Z"]
START = datetime(2020, 9, 1, tzinfo=UTC)


def at(minutes: int) -> datetime:
    """Return a moment that lies so many minutes after the start of the term."""
    return START + timedelta(minutes=minutes)


class InMemory:
    """A worker with a small roster; moments are minutes."""

    def __init__(self) -> None:
        self._worker = MemoryWorker()
        self._requests = 0
        for kind, ids in ((Kind.STUDENTS, STUDENTS), (Kind.COURSES, COURSES)):
            self.apply(*({"sis_id": sis_id} for sis_id in ids), kind=kind, batch_id=kind.value)

    def _ask(self, task: TaskName, *args: Any, **kwargs: Any) -> Any:
        result = self._worker.run(task, list(args), kwargs, {})
        return TypeAdapter(RESULT_TYPES[task]).validate_python(result)

    def enroll(self, student: str, *courses: Any, **fields: Any) -> StudentEnrollmentResponse:
        """Process a single request; `minute` is when it counts."""
        if (minute := fields.pop("minute", None)) is not None:
            fields["as_of"] = at(minute).isoformat()
        self._requests += 1
        record = {"request_id": f"request-{self._requests}", "student_id": student, **fields}
        response = self._ask(TaskName.ENROLL, {**record, "course_ids": courses})
        assert isinstance(response, StudentEnrollmentResponse)
        return response

    def drop(self, student: str, *courses: Any, **fields: Any) -> StudentEnrollmentResponse:
        """Process a single request that drops courses."""
        return self.enroll(student, drop_course_ids=courses, **fields)

    def apply(
        self,
        *records: Any,
        kind: Kind = Kind.ENROLLMENTS,
        batch_id: str = "b",
        number: int = 0,
        **fields: Any,
    ) -> None:
        """Apply a chunk, which is the last one of its batch if nothing else is said."""
        chunk = {"batch_id": batch_id, "number": number, "last": True, "records": records}
        self._worker.run(KIND_TASKS[kind], [json.dumps({**chunk, **fields})], {}, {})

    def books(self, batch_id: str = "b") -> dict[str, int]:
        """Return the counts of a batch that are not zero, and check that they balance."""
        (status,) = self._ask(TaskName.BATCH, [batch_id])
        counts: dict[str, int] = status.books.model_dump()
        received = counts["received"]
        assert received == sum(counts.values()) - received
        assert counts.keys() == Books.model_fields.keys()
        return {name: count for name, count in counts.items() if count}

    def refusals(self, batch_id: str = "b") -> list[RefusedRecord]:
        """Return the refused lines of a batch."""
        return list(self._ask(TaskName.REFUSALS, batch_id, 0, 0))

    def results(self, student: str) -> list[StudentEnrollmentResponse]:
        """Return the results of a student, newest first."""
        (results,) = self._ask(TaskName.RESULTS, [student])
        return list(results)

    def pairs(self) -> set[tuple[str, str]]:
        """Return who is enrolled in what."""
        students = self._ask(TaskName.STUDENT, STUDENTS)
        return {(student.sis_id, c.sis_id) for student in students for c in student.courses}

    def history(self, student: Any, *args: Any, **kwargs: Any) -> StudentHistory:
        """Return the history of a student."""
        history = self._ask(TaskName.HISTORY, student, *args, **kwargs)
        assert isinstance(history, StudentHistory)
        return history

    def roll(self, course: Any, *args: Any, **kwargs: Any) -> CourseRoll:
        """Return who was enrolled in a course that exists."""
        roll = self._ask(TaskName.ROLL, course, *args, **kwargs)
        assert isinstance(roll, CourseRoll)
        return roll

    def knows(self, course: Any) -> bool:
        """Return whether there is a roll of a course."""
        return self._ask(TaskName.ROLL, course) is not None
