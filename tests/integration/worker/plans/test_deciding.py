"""What is stored, and what earlier chunks did, decides a plan as it decides the run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import books, chunk, pairs
from support.databases import store_roster
from support.planning import Member, everything, plan_input, planned
from worker.batches.apply import apply_chunk
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.service import add_enrollments

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=1)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def drop(student: str, *courses: str, **fields: Any) -> dict[str, Any]:
    return {"student_id": student, "drop_course_ids": list(courses), "atomic": False, **fields}


ENROLL, DROP = pairs("A", "M1"), drop("A", "M1")
EARLY = {"as_of": at(-30).isoformat()}

CASES = {
    "a later request confirmed the pair": (
        [(ENROLL, -9), (ENROLL, 5)],
        [[DROP]],
        {"superseded": 1},
    ),
    "an earlier request confirmed the pair": (
        [(ENROLL, -9), (ENROLL, -5)],
        [[DROP]],
        {"dropped": 1},
    ),
    "an earlier chunk confirmed the pair": (
        [(ENROLL, -9)],
        [[ENROLL], [DROP]],
        {"already_enrolled": 1, "superseded": 1},
    ),
    "an earlier chunk dropped the pair": (
        [(ENROLL, -9)],
        [[DROP], [ENROLL]],
        {"dropped": 1, "enrolled": 1},
    ),
    "a later request dropped the pair": (
        [(ENROLL, -9), (DROP, 5)],
        [[ENROLL]],
        {"superseded": 1},
    ),
    "an earlier request dropped the pair": (
        [(ENROLL, -9), (DROP, -5)],
        [[ENROLL]],
        {"enrolled": 1},
    ),
    "a later chunk counts before a drop that the first one does not look at": (
        [(ENROLL, -60), (DROP, -20)],
        [[ENROLL], [drop("A", "M1"), pairs("A", "M2", **EARLY)], [pairs("A", "M1", **EARLY)]],
        {"enrolled": 2, "superseded": 1, "already_enrolled": 1},
    ),
    "a request has the id of another one": (
        [({**ENROLL, "request_id": "r"}, -9)],
        [[{**ENROLL, "request_id": "r"}, pairs("A", "M2", request_id="r")]],
        {"already_enrolled": 1, "rejected": 1},
    ),
    "two chunks have a request with one id": (
        [],
        [[{**ENROLL, "request_id": "r"}], [{**ENROLL, "request_id": "r"}]],
        {"enrolled": 1, "already_enrolled": 1},
    ),
    "two chunks name the same pair": (
        [],
        [[ENROLL], [ENROLL]],
        {"enrolled": 1, "already_enrolled": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_plan_decides_as_the_run_does(database: Database, case: str) -> None:
    before, chunks, expected = CASES[case]
    store_roster(database, ["A", "B"], ["M1", "M2"])
    for number, (record, minute) in enumerate(before):
        own = {"request_id": f"before-{number}", **record}
        add_enrollments(database, [read_request("task", [own], {}, at(minute))], clock=lambda: NOW)
    texts = [
        chunk(*records, number=number, last=number == len(chunks) - 1).model_dump_json()
        for number, records in enumerate(chunks)
    ]
    member = Member("b", Kind.ENROLLMENTS, texts, NOON)
    untouched = everything(database)

    made = planned(database, plan_input([member], NOON), clock=lambda: NOW)

    assert everything(database) == untouched
    counts = made.batches[0].books.model_dump(exclude={"received"})
    assert {name: count for name, count in counts.items() if count} == expected
    for text in texts:
        origin = BatchOrigin(moment=NOON)
        apply_chunk(database, Kind.ENROLLMENTS, text, origin=origin, clock=lambda: NOW)
    run = books(database)
    del run["received"]
    assert run == expected
