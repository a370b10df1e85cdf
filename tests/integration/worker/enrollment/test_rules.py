"""Random rosters and random sequences of requests, against a model in plain Python."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from producer.publishing.chunking import SourceRecord, split_into_chunks
from producer.schemas import Code, Kind, StudentEnrollmentRequest
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses
from worker.database.engine import Database
from worker.enrollment.lookups import request_statuses
from worker.service import add_enrollment

STUDENTS = [f"S{n}" for n in range(6)]
COURSES = [f"C{n}" for n in range(5)]


@dataclass
class Model:
    """A model of what the system must do, in plain Python."""

    students: dict[str, int]
    courses: dict[str, int]
    rows: set[tuple[int, int]] = field(default_factory=set)
    results: dict[str, tuple[Any, str, list[tuple[int, bool]], list[str]]] = field(
        default_factory=dict
    )

    def request(self, request_id: str, record: dict[str, Any]) -> tuple[str, int, int, int]:
        """Return the status, and the numbers of enrolled, already enrolled and rejected rows."""
        asked = list(dict.fromkeys(record["course_ids"]))
        content = (record["student_id"], tuple(asked), record["atomic"])
        if request_id in self.results:
            first, status, enrolled, _ = self.results[request_id]
            if first != content:
                return "rejected", 0, 0, len(asked)
            lost = len(asked) if status == "rejected" else len(self.results[request_id][3])
            return status, 0, len(asked) - lost, lost
        student = self._key(self.students, record["student_id"])
        bad = [c for c in asked if self._key(self.courses, c) is None]
        good: list[int] = []
        if student is not None and not (bad and record["atomic"]):
            keys = (self._key(self.courses, c) for c in asked)
            good = list(dict.fromkeys(key for key in keys if key is not None))
        codes = ["unknown_course"] * len(bad) if student is not None else ["unknown_student"]
        enrolled = [(course, (student, course) not in self.rows) for course in good]
        if student is not None:
            self.rows.update((student, course) for course in good)
        status = "enrolled" if good and not bad else "partial" if good else "rejected"
        errors = [] if status == "enrolled" else codes
        self.results[request_id] = (content, status, enrolled, errors)
        added = sum(new for _, new in enrolled)
        lost = len(asked) if status == "rejected" else len(bad)
        return status, added, len(asked) - added - lost, lost

    @staticmethod
    def _key(known: dict[str, int], asked: int | str) -> int | None:
        if isinstance(asked, str):
            return known.get(asked)
        return asked if asked in known.values() else None


def identifiers(names: list[str]) -> st.SearchStrategy[int | str]:
    return st.sampled_from(names) | st.integers(1, len(names) + 1)


requests = st.fixed_dictionaries(
    {
        "student_id": identifiers(STUDENTS),
        "course_ids": st.lists(identifiers(COURSES), min_size=1, max_size=4),
        "atomic": st.booleans(),
        "request_id": st.sampled_from(["r0", "r1", "r2", "r3"]) | st.uuids().map(str),
    }
)
steps = st.lists(requests | st.lists(requests, min_size=1, max_size=6), min_size=1, max_size=12)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_database(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[Database]:
    made = Database(new_database(request.param))
    yield made
    made.close()


@settings(
    max_examples=60,
    deadline=None,  # A commit takes as long as the disk takes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    students=st.lists(st.sampled_from(STUDENTS), unique=True),
    courses=st.lists(st.sampled_from(COURSES), unique=True),
    sequence=steps,
    again=st.booleans(),
)
def test_rows_results_and_counts_agree_with_the_model(
    shared_database: Database,
    students: list[str],
    courses: list[str],
    sequence: list[Any],
    again: bool,
) -> None:
    database = shared_database
    _empty(database)
    model = Model(_load(database, Kind.STUDENTS, students), _load(database, Kind.COURSES, courses))
    for step in sequence:
        if isinstance(step, dict):
            _check_single(database, model, step)
        else:
            _check_batch(database, model, step, again=again)
    _check_everything(database, model)


def _check_single(database: Database, model: Model, record: dict[str, Any]) -> None:
    request = StudentEnrollmentRequest.model_validate(record)
    status, *_ = model.request(record["request_id"], record)
    response = add_enrollment(database, request, record["request_id"])
    assert response.status == status
    if all(problem.code != Code.REQUEST_ID_REUSED for problem in response.errors):
        (stored,) = request_statuses(database, [record["request_id"]], {})
        assert stored.result == response


def _check_batch(
    database: Database, model: Model, records: list[dict[str, Any]], *, again: bool
) -> None:
    expected = [model.request(record["request_id"], record) for record in records]
    batch_id = uuid.uuid4().hex
    entries = [SourceRecord(record, [line]) for line, record in enumerate(records, 1)]
    for chunk in split_into_chunks(batch_id, entries):
        for _ in range(1 + again):
            apply_chunk(database, Kind.ENROLLMENTS, chunk.text)
    (found,) = batch_statuses(database, [batch_id], {}, refusals=True)
    books = found.books
    assert (books.enrolled, books.already_enrolled, books.rejected) == tuple(
        sum(counts) for counts in list(zip(*expected, strict=True))[1:]
    )
    assert books.received == books.enrolled + books.already_enrolled + books.rejected
    assert found.requests_rejected == sum(status == "rejected" for status, *_ in expected)


def _check_everything(database: Database, model: Model) -> None:
    with database.reading() as connection:
        rows = connection.execute(text("SELECT student_id, course_id FROM student_courses"))
        assert {tuple(row) for row in rows} == model.rows
    found = request_statuses(database, list(model.results), {})
    for status in found:
        result = status.result
        assert result is not None
        content, expected, enrolled, codes = model.results[status.request_id]
        assert (result.student_id, result.status) == (content[0], expected)
        assert [(c.id, c.added) for c in result.enrolled_courses] == enrolled
        assert [problem.code for problem in result.errors] == codes


def _load(database: Database, kind: Kind, names: list[str]) -> dict[str, int]:
    for chunk in split_into_chunks(
        kind.value, (SourceRecord({"sis_id": name}, [1]) for name in names)
    ):
        apply_chunk(database, kind, chunk.text)
    with database.reading() as connection:
        rows = connection.execute(text(f"SELECT sis_id, id FROM {kind.value}"))  # noqa: S608
        return {row.sis_id: row.id for row in rows}


def _empty(database: Database) -> None:
    """Empty every table; keys begin at 1 again, so that requests by key meet the roster."""
    tables = ["student_courses", "enrollment_results", "batch_refusals", "batch_chunks"]
    tables += ["batches", "students", "courses"]
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"))
            return
        for table in tables:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608
