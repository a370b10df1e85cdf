"""Whatever is submitted, the fake client returns what the worker's rules and SQL return."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, given, settings
from hypothesis import strategies as st

from producer.client import EnrollmentClient
from producer.contract.chunks import RefusedLine, count_rows
from producer.contract.history import CourseRoll, HistoryEntry
from producer.contract.routing import TaskName
from producer.errors import EnrollmentError
from producer.publishing import chunking
from producer.publishing.chunking import SourceRecord
from producer.schemas import ContractModel, Kind
from producer.testing import FakeEnrollmentClient
from producer.testing.connection import MemoryBroker, Worker
from producer.testing.worker import MemoryWorker
from support.databases import without_syncing
from support.sql_worker import SqlWorker
from worker.database.engine import Database

IGNORED = {
    # Two clients work at different moments.
    "completed_at", "started_at", "finished_at", "rows_per_second", "seconds_left",
    # The fake does not look for likely causes.
    "likely_causes", "examined",
}  # fmt: skip

YEAR_OF_MOMENTS = 2020
"""The year of the moments that requests give themselves; all others depend on the client."""

STUDENTS: list[Any] = ["A", "B", "1", "Ä"]
COURSES: list[Any] = ["M1", "M2", "M3", "2"]
students = st.sampled_from([*STUDENTS, "Z", 1, 2, 3, 99])
courses = st.lists(st.sampled_from([*COURSES, "X", 1, 2, 3, 77]), min_size=1, max_size=4)
batch_ids = st.sampled_from(["b1", "b2", "b3"])
request_ids = st.sampled_from([f"r{n}" for n in range(5)])


SELECTED: list[dict[str, str]] = [
    {},
    {"state": "done"},
    {"state": "running"},
    {"state": "unknown"},
    {"kind": "enrollments"},
    {"submitter": "registrar"},
    {"kind": "students", "submitter": "sis ", "state": "done"},
]
"""Which batches of the list are read."""


class Call(NamedTuple):
    """A call of a verb."""

    verb: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class Interrupted(Exception):
    """The records of a batch cannot be read to their end."""


as_of = st.integers(0, 4).map(lambda minute: f"{YEAR_OF_MOMENTS}-01-01T00:0{minute}:00Z")
optional = {
    "request_id": request_ids,
    "atomic": st.booleans(),
    "as_of": as_of,
    "reason": st.sampled_from(["", "moved away"]),
}
enrolls = st.fixed_dictionaries(
    {"student_id": students, "course_ids": courses}, optional={**optional}
)
drops = st.fixed_dictionaries(
    {"student_id": students, "drop_course_ids": courses}, optional={**optional}
)
different_courses = courses.map(lambda ids: list(dict.fromkeys(ids)))
swaps = st.fixed_dictionaries(
    {
        "student_id": students,
        "course_ids": different_courses,
        "drop_course_ids": different_courses,
    },
    optional={**optional},
)
any_requests = enrolls | drops | swaps
repeated = st.sampled_from(
    [
        {"student_id": "A", "course_ids": ["M1", "M2"], "request_id": "r0"},
        {"student_id": "B", "course_ids": ["M1", "X"], "atomic": False, "request_id": "r1"},
        {"student_id": "Z", "course_ids": ["M1"], "request_id": "r2"},
        {"student_id": "A", "drop_course_ids": ["M1"], "request_id": "r3"},
        {"student_id": "A", "course_ids": ["M1", 2], "request_id": "r4", "reason": ""},
    ]
)
requests = any_requests | any_requests | repeated
LONG = {"student_id": "A", "course_ids": ["M1", "M2", "X"], "note": "x" * 2_000}
broken = st.sampled_from(
    [
        {"student_id": "A"},
        {"student_id": 1, "course_ids": []},
        {"student_id": None, "course_ids": ["M1", "M2", "M2"]},
        {"student_id": "B", "course_ids": ["M1", ""], "request_id": "r1"},
        {"student_id": "A", "course_ids": ["M1"], "request_id": "b1:0:0"},
        {"student_id": 0, "course_ids": ["M1", "M2"], "atomic": 1, "note": "x"},
        {"student_id": "A", "course_ids": ["M1", "M2"], "drop_course_ids": ["M3", "M1", "M2"]},
        {"student_id": "A", "course_ids": [1], "drop_course_ids": ["M3", "M1", ""], "reason": 1},
        {"student_id": "A", "course_ids": 5, "drop_course_ids": ["M3", "M1"]},
        LONG,
        ["A", "M1"],
        None,
        7,
    ]
)


@st.composite
def lines_of_a_file(draw: st.DrawFn) -> list[Any]:
    """Draw the records of a file, each with its lines, and refused lines among them."""
    entries: list[Any] = []
    with_cells = draw(st.booleans())
    line = 1
    for record in draw(st.lists(requests | broken, max_size=5)):
        count = draw(st.sampled_from([1, count_rows(record), count_rows(record)]))
        numbers = [line + number for number in range(count)]
        cells: list[list[str] | str] | None = (
            [[f"c{number}"] for number in numbers] if with_cells else None
        )
        entries.append(SourceRecord(record, numbers, cells))
        # The next record may begin in the line in which this one ends.
        line += len(numbers) - draw(st.integers(0, 1))
        if draw(st.booleans()):
            entries.append(RefusedLine(line=line, message="it is broken", cells=("x", "y")))
            line += 1
    return entries


rosters = st.builds(
    lambda kind, ids, names: Call(
        "submit_batch",
        (kind, [{"sis_id": i, **name} for i, name in zip(ids, names, strict=False)]),
        {},
    ),
    st.sampled_from(["students", "courses"]),
    st.lists(st.sampled_from([*STUDENTS, *COURSES, ""]), min_size=1, max_size=5),
    st.lists(
        st.sampled_from([{}, {"name": "Ada"}, {"title": "Logic"}, {"email": "a"}, {"name": None}]),
        min_size=1,
        max_size=5,
    ),
)
batches = st.builds(
    lambda kind, records, batch_id, **options: Call(
        "submit_batch", (kind, records), {"batch_id": batch_id, **options}
    ),
    st.sampled_from(["enrollments", "enrollments", "enrollments", "students"]),
    st.one_of(st.lists(requests | broken, max_size=6), lines_of_a_file(), lines_of_a_file()),
    st.none() | batch_ids,
    ordered=st.booleans(),
    submitter=st.sampled_from([None, "sis", " registrar "]),
    file_name=st.sampled_from([None, "a.csv"]),
)
interrupted = st.builds(
    lambda records, batch_id: Call(
        "submit_batch", ("enrollments", [*records, Interrupted]), {"batch_id": batch_id}
    ),
    st.lists(requests, min_size=1, max_size=8),
    batch_ids,
)
singles = st.builds(lambda request: Call("enroll", (request,), {}), requests)
calls = st.lists(rosters | singles | batches | interrupted, max_size=8)


@pytest.fixture(scope="module")
def sql_worker(new_database: Callable[[str], str]) -> Iterator[SqlWorker]:
    database = without_syncing(Database(new_database("sqlite")))
    yield SqlWorker(database)
    database.close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "CHUNK_ROWS", 3)


ROSTER = [
    Call("submit_batch", (Kind.STUDENTS, [{"sis_id": i, "name": f"N{i}"} for i in "AB"]), {}),
    Call("submit_batch", (Kind.COURSES, [{"sis_id": f"M{n}"} for n in (1, 2)]), {}),
]


DROPPED_AND_REFUSED = {"student_id": "A", "drop_course_ids": [1, 77], "atomic": False}
IN_ONE_LINE = [
    SourceRecord({"student_id": "Z", "course_ids": ["M1"]}, [1], [["c1"]]),
    SourceRecord({"student_id": 0, "course_ids": ["M2"]}, [1], [["c1"]]),
]
REFUSED = [
    SourceRecord({"student_id": "1", "course_ids": [77, "X"], **own_id}, [line, line + 1])
    for line, own_id in ((1, {}), (3, {"request_id": "r4"}))
]


PARTS = 4
"""Into so many tests the examples are divided, which run side by side."""


@pytest.mark.parametrize("part", range(PARTS))
@settings(
    max_examples=settings().max_examples // PARTS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.reuse, Phase.generate],
)
@given(calls=calls)
def test_the_fake_decides_like_the_worker(
    sql_worker: SqlWorker, part: int, calls: list[Call]
) -> None:
    check(sql_worker, calls)


@pytest.mark.parametrize(
    "calls",
    [
        [Call("submit_batch", ("enrollments", IN_ONE_LINE), {"batch_id": "b1"})],
        [Call("submit_batch", ("enrollments", REFUSED), {"batch_id": "b1"})],
        [
            Call("enroll", ({"student_id": "A", "course_ids": ["M1"]},), {}),
            Call("enroll", (DROPPED_AND_REFUSED,), {}),
        ],
        [
            Call(
                "submit_batch",
                ("enrollments", [SourceRecord(LONG, [1, 2, 3])]),
                {"batch_id": "b1"},
            )
        ],
    ],
    ids=["two records in one line", "refused lines", "a refused drop", "a long record"],
)
def test_the_fake_decides_a_known_case_like_the_worker(
    sql_worker: SqlWorker, calls: list[Call]
) -> None:
    check(sql_worker, calls)


def check(sql_worker: SqlWorker, calls: list[Call]) -> None:
    """Make the calls with both workers, and compare all that a client can see."""
    sql_worker.clear()
    memory_worker = MemoryWorker()
    real = FakeEnrollmentClient(broker=MemoryBroker(sql_worker))
    fake = FakeEnrollmentClient(broker=MemoryBroker(memory_worker))
    submitted = ["b1", "b2", "b3"]
    for number, call in enumerate([*ROSTER, *calls]):
        # A client would give each of them another id.
        if call.verb == "enroll":
            call.arguments[0].setdefault("request_id", f"own-{number}")
        elif call.options.get("batch_id") is None:
            call.options["batch_id"] = f"own-{number}"
            submitted.append(f"own-{number}")
        expected = made_by(real, call)
        if currently_in_test_context():
            event(f"{call.verb}: {type(expected).__name__}")
        assert made_by(fake, call) == expected
    assert seen_by(fake, submitted) == seen_by(real, submitted)
    assert histories_of(memory_worker) == histories_of(sql_worker)
    assert rolls_of(memory_worker) == rolls_of(sql_worker)


def made_by(client: EnrollmentClient, call: Call) -> Any:
    """Make a call; return its result, or its error, without what differs between two clients."""
    first, *rest = call.arguments
    arguments = (first, *map(read_on, rest))
    try:
        return plain(getattr(client, call.verb)(*arguments, **call.options))
    except (EnrollmentError, Interrupted) as error:
        return (type(error), str(error))


def read_on(records: list[Any]) -> Iterator[Any]:
    for record in records:
        if record is Interrupted:
            raise Interrupted
        yield record


def seen_by(client: EnrollmentClient, batch_ids: list[str]) -> dict[str, Any]:
    """Return all that a client can read."""
    ids = [*STUDENTS, "Z", 1, 2, 3, 4, 99]
    newest = client.results("A", limit=1)
    before = [(newest[0].completed_at, newest[0].request_id)] if newest else []
    results = plain(client.results_of(ids))
    lines = [result["request_id"] for found in results for result in found]
    numbers = list(range(6))
    return {
        "students": plain(client.students(ids)),
        "results": results,
        "older results": [plain(client.results("A", before=cursor)) for cursor in before],
        "statuses": plain(client.statuses([f"r{n}" for n in range(5)] + lines)),
        "batches": plain(client.batches(batch_ids)),
        "counts": plain(client.batches(batch_ids, refusals=False)),
        "newest": plain(client.recent_batches(limit=3)),
        "pages": [list(pages_of(client, **selected)) for selected in SELECTED],
        "refusals": [plain(list(client.refusals(batch_id))) for batch_id in batch_ids],
        "applied": [plain(client.applied_chunks(batch_id, numbers)) for batch_id in batch_ids],
    }


def pages_of(client: EnrollmentClient, **selected: str) -> Iterator[Any]:
    """Yield the batches of each page, and whether more follow."""
    cursor = None
    while True:
        page = client.batch_page(2, cursor=cursor, **selected)
        yield plain(page.batches), page.next is None
        if page.next is None:
            return
        cursor = page.next


def histories_of(worker: Worker) -> list[Any]:
    """Return the histories of all students, and of one in each course."""
    lookups = [[student] for student in [*STUDENTS, "Z", 1, 2, 99]]
    lookups += [["A", course] for course in [*COURSES, "X", 1, 77]]
    return [plain_history(worker.run(TaskName.HISTORY, lookup, {}, {})) for lookup in lookups]


def plain_history(history: Any) -> Any:
    """Return a history without what may differ: the order of the courses of one request."""
    entries = plain([HistoryEntry.model_validate(entry) for entry in history["entries"]])
    for entry in entries:
        # A worker does not know the line of each course.
        del entry["line"]
    return {**history, "entries": [list(part) for _, part in by_request(entries)]}


def by_request(entries: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the entries of a request that have one kind of change, in any fixed order."""
    for key, part in groupby(entries, key=lambda e: (e["request_id"], e["change"])):
        yield key, sorted(part, key=repr)


def rolls_of(worker: Worker) -> list[Any]:
    moments = [None, *(f"{YEAR_OF_MOMENTS}-01-01T00:0{minute}:00Z" for minute in range(5))]
    rolls = [
        worker.run(TaskName.ROLL, [course, moment], {}, {})
        for course in [*COURSES, "X", 1]
        for moment in moments
    ]
    return [plain(roll and CourseRoll.model_validate(roll)) for roll in rolls]


def plain(value: Any) -> Any:
    """Return a result as plain data, without what differs between two clients."""
    if isinstance(value, ContractModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return {name: plain(field) for name, field in value.items() if name not in IGNORED}
    if isinstance(value, datetime):
        return value if value.year == YEAR_OF_MOMENTS else "at the time of submission"
    return [plain(element) for element in value] if isinstance(value, list | tuple) else value
