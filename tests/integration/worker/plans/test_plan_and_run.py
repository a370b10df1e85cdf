"""For random databases and batches, a plan reports what the run that follows does."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from producer.contract.batches import RefusalGroup
from producer.schemas import Kind
from support.databases import clear_roster, opened_database, store_roster
from support.planning import Member, everything, plan_input, planned, stored_refusals
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses
from worker.data_sets.repository import begin_sweep, data_set_key
from worker.database.engine import Database
from worker.enrollment.incoming import read_request
from worker.models import BatchRefusal, DeadLetter, PastEnrollment
from worker.plan_models import AlsoEnrolledBy, DataSet, PlannedDropRow, PlannedRefusal, PlanRow
from worker.plans.temporary.making import MadePlan
from worker.service import add_enrollments
from worker.snapshots.sweep import Sweep, sweep_page, swept_rows

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=1)
EXAMPLES = 20


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


# --- random batches -----------------------------------------------------------------------------

MINUTES = st.integers(0, 9)
# Few of them, so that requests meet.
STUDENTS = st.sampled_from(["A", "A", "A", "A", "B", 1, "new", "unknown", 99])
COURSES = st.sampled_from(["M1", "M1", "M1", "M2", "M2", 1, "N1", "unknown"])
LISTS = st.lists(COURSES, max_size=2, unique=True)
BROKEN: st.SearchStrategy[Any] = st.sampled_from(
    [None, 7, {"student_id": True}, {"student_id": "A", "course_ids": ["M1", 2.5]}, {}]
)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """A request in JSON: it may enroll, drop, have an id or a time of its own, or be broken."""
    if draw(st.integers(0, 9)) == 0:
        return draw(BROKEN)
    record = {"student_id": draw(STUDENTS), "course_ids": draw(LISTS)}
    if draw(st.booleans()):
        record["atomic"] = draw(st.booleans())
    if draw(st.booleans()):
        record["drop_course_ids"] = draw(LISTS)
    if draw(st.integers(0, 3)) == 0:
        record["request_id"] = draw(st.sampled_from(["r0", "r1", "r2"]))
    if draw(st.integers(0, 5)) == 0:
        record["as_of"] = at(draw(MINUTES)).isoformat()
    return record


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    """Requests as columns: all enroll, or all drop."""
    size = draw(st.integers(1, 4))
    some = st.lists(COURSES, min_size=1, max_size=3, unique=True)
    name = draw(st.sampled_from(["course_ids", "course_ids", "drop_course_ids"]))
    return {
        "student_ids": [draw(STUDENTS) for _ in range(size)],
        name: [draw(some) for _ in range(size)],
        "atomic": draw(st.booleans()),
    }


REFUSED = st.just([{"line": 7, "message": "a cell is missing", "cells": ["A", "M1"]}])


DATA_SETS = st.sampled_from([None, "sis", "other"])


@st.composite
def enrollment_chunks(draw: st.DrawFn, batch_id: str) -> list[dict[str, Any]]:
    count, ordered = draw(st.integers(1, 3)), draw(st.booleans())
    shared = {"batch_id": batch_id, "ordered": ordered, "data_set": draw(DATA_SETS)}
    chunks = []
    for number in range(count):
        chunk: dict[str, Any] = {**shared, "number": number}
        if draw(st.booleans()):
            chunk["requests"] = draw(columns())
        else:
            chunk["records"] = draw(st.lists(requests(), max_size=4))
        chunk["refused"] = draw(st.sampled_from([[], [], draw(REFUSED)]))
        chunks.append(chunk | {"last": number == count - 1})
    return chunks


@st.composite
def roster_chunks(draw: st.DrawFn, batch_id: str, kind: Kind) -> list[dict[str, Any]]:
    """Records that make students or courses, change them, or are broken."""
    field, ids = ("name", ["A", "new"]) if kind is Kind.STUDENTS else ("title", ["M1", "N1"])
    record = st.one_of(
        st.fixed_dictionaries(
            {"sis_id": st.sampled_from(ids)},
            optional={
                field: st.sampled_from(["Ada", "Eve"]),
                "as_of": st.builds(lambda minute: at(minute).isoformat(), MINUTES),
            },
        ),
        st.just({"sis_id": 7}),
    )
    count = draw(st.integers(1, 2))
    return [
        {
            "batch_id": batch_id,
            "number": number,
            "last": number == count - 1,
            "records": draw(st.lists(record, max_size=3)),
        }
        for number in range(count)
    ]


@st.composite
def packages(draw: st.DrawFn, name: str) -> list[Member]:
    """A batch, perhaps with the rosters of its package."""
    moment = at(draw(MINUTES))
    members = [
        Member(
            f"{name}-{kind}",
            kind,
            list(map(json.dumps, draw(roster_chunks(f"{name}-{kind}", kind)))),
            moment,
        )
        for kind in (Kind.STUDENTS, Kind.COURSES)
        if draw(st.booleans())
    ]
    chunks = list(map(json.dumps, draw(enrollment_chunks(name))))
    return [*members, Member(name, Kind.ENROLLMENTS, chunks, moment)]


@st.composite
def single_requests(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A request that is not part of a batch, and when it counts."""
    record = draw(requests().filter(lambda r: isinstance(r, dict) and "atomic" in r))
    return {"request_id": draw(st.sampled_from(["r0", "r1", "r3", "r4", "r5"])), **record}, draw(
        MINUTES
    )


# --- the property -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def kept(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Database]:
    """A database for all examples: each begins with an empty one, and the same roster."""
    with opened_database(new_database(request.param)) as database:
        yield database


OTHERS = (PastEnrollment, DeadLetter, AlsoEnrolledBy, PlannedRefusal, PlannedDropRow, PlanRow)


def clear(database: Database) -> None:
    clear_roster(database)
    with database.writing() as connection:
        for model in (*OTHERS, DataSet):
            connection.execute(delete(model))
        if connection.dialect.name == "postgresql":
            for name in ("students_id_seq", "courses_id_seq"):
                connection.execute(text(f"ALTER SEQUENCE {name} RESTART"))
    store_roster(database, ["A", "B", "C"], ["M1", "M2", "M3"])


def run(database: Database, member: Member, texts: list[str]) -> None:
    for chunk in texts:
        apply_chunk(database, member.kind, chunk, origin=member.origin, clock=lambda: NOW)


def submit(database: Database, record: dict[str, Any], minute: int) -> None:
    incoming = read_request("task", [record], {}, at(minute))
    add_enrollments(database, [incoming], clock=lambda: NOW)


def prepare(
    database: Database, history: list[list[Member]], singles: list[tuple[dict[str, Any], int]]
) -> None:
    """Begin with the same roster, then apply batches and single requests."""
    clear(database)
    for number, members in enumerate(history):
        for member in members:
            own = [chunk.replace('"h', f'"h{number}') for chunk in member.chunks]
            run(database, member, own)
    for record, minute in singles:
        submit(database, record, minute)


def compare(database: Database, plan: list[Member], made: MadePlan) -> None:
    """Compare what a plan reports with the batches that were applied then."""
    for member, batch in zip(plan, made.batches, strict=True):
        (status,) = batch_statuses(database, [member.batch_id], {}, refusals=True)
        assert batch.batch_id == member.batch_id
        assert batch.books == status.books
        assert batch.requests == status.requests_applied
        assert batch.requests_rejected == status.requests_rejected
        # What an unknown id may mean depends on the roster at the time of the look-up.
        assert _without_causes(batch.refusals) == _without_causes(status.refusals)
        refusals = stored_refusals(database, member.batch_id)
        assert refusals == stored_refusals(database, member.batch_id, BatchRefusal)


def _without_causes(groups: Iterable[RefusalGroup]) -> list[RefusalGroup]:
    return [g.model_copy(update={"likely_causes": (), "examined": None}) for g in groups]


HISTORY = st.lists(packages("h"), max_size=2)
SINGLES = st.lists(single_requests(), max_size=6)
SETTINGS = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@SETTINGS
@given(
    history=HISTORY,
    singles=SINGLES,
    plan=packages("b"),
    applied=st.sampled_from([0, 0, 0, 1]),
    times=st.sampled_from([1, 1, 2]),
)
def test_a_plan_reports_what_the_run_that_follows_does(
    kept: Database,
    history: list[list[Member]],
    singles: list[tuple[dict[str, Any], int]],
    plan: list[Member],
    applied: int,
    times: int,
) -> None:
    """Some chunks of the plan may have been applied before, as when a submission is resumed."""
    prepare(kept, history, singles)
    run(kept, plan[-1], plan[-1].chunks[:applied])
    before = everything(kept)
    moment = plan[-1].origin.moment or NOON

    made = planned(kept, plan_input(plan, moment), clock=lambda: NOW, times=times)

    assert everything(kept) == before
    for member in plan:
        run(kept, member, member.chunks)
    compare(kept, plan, made)


# --- snapshots ----------------------------------------------------------------------------------


@st.composite
def snapshots(draw: st.DrawFn) -> list[Member]:
    """A package whose enrollments are the whole truth of a data set; they drop nothing."""
    members = draw(packages("s"))
    chunks = []
    for text_of_chunk in members[-1].chunks:
        chunk = json.loads(text_of_chunk) | {"ordered": False, "data_set": "sis"}
        columns = chunk.get("requests", {})
        if "drop_course_ids" in columns:
            columns["course_ids"] = columns.pop("drop_course_ids")
        for record in chunk.get("records", ()):
            if isinstance(record, dict):
                record.pop("drop_course_ids", None)
        chunks.append(json.dumps(chunk))
    members[-1].chunks = chunks
    return members


@SETTINGS
@given(history=HISTORY, singles=SINGLES, plan=snapshots())
def test_a_snapshot_drops_what_its_plan_reports(
    kept: Database,
    history: list[list[Member]],
    singles: list[tuple[dict[str, Any], int]],
    plan: list[Member],
) -> None:
    prepare(kept, history, singles)
    moment = plan[-1].origin.moment or NOON
    with kept.writing() as connection:
        key = data_set_key(connection, "sis", NOON)
    before = everything(kept)

    made = planned(kept, plan_input(plan, moment, key, snapshot=True), clock=lambda: NOW)

    assert everything(kept) == before
    assert made.absence is not None
    with kept.writing() as connection:
        assert begin_sweep(connection, key, moment)
    for member in plan:
        run(kept, member, member.chunks)
    compare(kept, plan, made)
    sweep = Sweep("s", "s", len(plan[-1].chunks), key, "sis", moment)
    while sweep_page(kept, sweep, clock=lambda: NOW, page=2):
        pass
    with kept.reading() as connection:
        assert swept_rows(connection, "s", made.absence.absent) == made.absence.absent
