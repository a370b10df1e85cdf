"""Batches of two clients may count at one moment; it is known whose request opened what."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.databases import count_rows, store_roster
from support.undoing import COURSES, apply, request
from worker.batches.apply import ChunkOutcome
from worker.database.engine import Database
from worker.enrollment.lookups import request_statuses, student_results
from worker.history.lookups import student_history
from worker.models import EnrollmentResult

BATCHES = {
    "x": [[request("A", ["M1"]), request("B", ["M1"])], [request("B", ["M2"])]],
    "y": [[request("A", ["M2"]), request("A", ["M3"])], [request("B", ["M3"])]],
}
"""The chunks of each batch. Requests of one student have the same place in both batches."""
BOTH = request("C", ["M1", "M2"])
"""The last chunk of both batches."""


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, "ABC", COURSES)


def deliver_at_once(database: Database) -> list[ChunkOutcome]:
    """Deliver the batches of two clients at the same time, each chunk twice, in other orders."""
    start, outcomes = threading.Barrier(2), []

    def deliver(batch_id: str, numbers: list[int]) -> None:
        start.wait()
        for number in numbers:
            records = [*BATCHES[batch_id], [BOTH]][number]
            fields: dict[str, Any] = {"batch_id": batch_id, "number": number, "last": number == 2}
            outcomes.append(apply(database, *records, **fields).outcome)

    orders = {"x": [0, 2, 0, 1, 1, 2], "y": [1, 2, 2, 0, 0, 1]}
    threads = [threading.Thread(target=deliver, args=item) for item in orders.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def requests() -> Iterator[tuple[str, Any]]:
    for batch_id, chunks in BATCHES.items():
        for number, records in enumerate(chunks):
            for position, record in enumerate(records):
                yield f"{batch_id}:{number}:{position}", record


def opened_by(database: Database, student: str) -> set[tuple[str | None, str | None, str | None]]:
    """Return the courses of a history, each with the request and the batch that opened it."""
    entries = student_history(database, student).entries
    return {(e.course.sis_id, e.request_id, e.batch_id) for e in entries if e.course}


def test_results_and_histories_name_the_batch_of_each_request(database: Database) -> None:
    outcomes = deliver_at_once(database)
    assert sorted(outcomes) == [ChunkOutcome.APPLIED] * 6 + [ChunkOutcome.REPEATED] * 6
    # All results are derived but that of the second batch that named the last two pairs.
    assert count_rows(database, EnrollmentResult) == 1
    wanted = dict(requests())
    for status in request_statuses(database, list(wanted), {}):
        assert status.result is not None
        assert status.result.batch_id == status.request_id[0]
        courses = [course.sis_id for course in status.result.enrolled_courses]
        assert courses == wanted[status.request_id]["course_ids"]
    for student in "AB":
        own = {name: r["course_ids"] for name, r in wanted.items() if r["student_id"] == student}
        (page,) = student_results(database, [student], 100)
        assert {r.request_id: len(r.enrolled_courses) for r in page} == {
            name: len(courses) for name, courses in own.items()
        }
        assert opened_by(database, student) == {
            (courses[0], name, name[0]) for name, courses in own.items()
        }


def test_a_pair_that_both_batches_name_is_of_the_one_that_opened_it(database: Database) -> None:
    deliver_at_once(database)
    statuses = request_statuses(database, ["x:2:0", "y:2:0"], {})
    opened = [
        status.request_id
        for status in statuses
        if status.result and all(c.added for c in status.result.enrolled_courses)
    ]
    (name,) = opened
    assert opened_by(database, "C") == {(course, name, name[0]) for course in ("M1", "M2")}
