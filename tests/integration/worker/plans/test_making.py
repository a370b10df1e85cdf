"""A plan reports what the run that follows does, and changes nothing that is real."""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, select, text

from producer.contract.batches import Cause
from producer.contract.chunks import Chunk
from producer.schemas import Kind
from support.chunks import chunk, pairs
from support.databases import store_roster
from support.planning import (
    Member,
    everything,
    plan_input,
    planned,
    store_plan,
    stored_refusals,
)
from worker import service
from worker.batches import opening
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses
from worker.database.engine import Database
from worker.database.enrollment_lock import lock_enrollments
from worker.database.planning import PlanRefused
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.loading.repository import Documents, load_for_requests
from worker.enrollment.values import RequestLookup
from worker.models import BatchRefusal, Student
from worker.plans.temporary.making import MadePlan, make_plan
from worker.plans.temporary.report import PlanOvertaken
from worker.plans.temporary.repository import add_planned_refusals

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


def test_a_plan_for_which_no_data_set_can_be_made_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAX_NAMED", 0)
    payload = chunk(pairs("A", "M1"), data_set="sis").model_dump_json()
    member = Member("b", Kind.ENROLLMENTS, [payload], NOON)
    with pytest.raises(PlanRefused, match=r"^The data set 'sis' cannot be created.*create sis"):
        planned(database, plan_input([member], NOON))


def test_a_plan_reports_what_the_run_then_does(database: Database) -> None:
    store_roster(database, ["A", "B"], ["M1", "M2"])
    texts = [
        chunk(pairs("A", "M1", "M2"), pairs("C", "M1"), last=False).model_dump_json(),
        chunk(pairs("A", "M1"), pairs("B", "M9"), number=1).model_dump_json(),
    ]
    member = Member("b", Kind.ENROLLMENTS, texts, NOON)
    before = everything(database)

    made = planned(database, plan_input([member], NOON), times=2)

    assert everything(database) == before
    for payload in texts:
        apply_chunk(database, Kind.ENROLLMENTS, payload, origin=member.origin)
    (status,) = batch_statuses(database, ["b"], {}, refusals=False)
    (batch,) = made.batches
    assert batch.books == status.books
    assert batch.requests == status.requests_applied
    assert stored_refusals(database, "b") == stored_refusals(database, "b", BatchRefusal)


def members_of(*chunks: Chunk) -> list[Member]:
    return [Member("b", Kind.ENROLLMENTS, [c.model_dump_json() for c in chunks], NOON)]


def make(database: Database, members: list[Member], on_chunk: Callable[[], None]) -> MadePlan:
    plan = plan_input(members, NOON)
    store_plan(database, plan)
    return make_plan(database, plan, lambda *_: None, on_chunk=on_chunk)


def test_a_plan_needs_no_lock_and_takes_none(postgres_database: Database) -> None:
    """It is made while another transaction holds what every transaction that drops waits for."""
    database = postgres_database
    store_roster(database, ["A"], ["M1"])
    drop = chunk({"student_id": "A", "drop_course_ids": ["M1"]})
    taken: list[tuple[str, str]] = []

    def look() -> None:
        with database.reading() as connection:
            locks = connection.execute(
                text(
                    "SELECT COALESCE(c.relname, l.locktype), l.mode FROM pg_locks l"
                    " JOIN pg_stat_activity a USING (pid)"
                    " LEFT JOIN pg_class c ON c.oid = l.relation AND c.relpersistence <> 't'"
                    " WHERE a.datname = current_database()"
                    " AND l.mode NOT IN ('AccessShareLock') AND a.pid <> pg_backend_pid()"
                    " AND l.pid <> :other AND (c.relname IS NOT NULL OR l.locktype = 'advisory')"
                ),
                {"other": other},
            )
            taken.extend((name, mode) for name, mode in locks)

    with database.writing() as connection:
        other = connection.scalar(text("SELECT pg_backend_pid()"))
        lock_enrollments(connection, exclusive=True)
        connection.execute(select(Student.id).with_for_update())
        made = make(database, members_of(drop), look)
    assert made.batches[0].books.not_enrolled == 1
    assert taken == []


def test_a_plan_reads_one_snapshot_of_the_database(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    first = chunk(pairs("A", "M1"), last=False)
    second = chunk(pairs("B", "M1"), number=1)

    made = make(database, members_of(first, second), lambda: store_roster(database, ["B"], []))

    assert made.batches[0].books.enrolled == 1
    assert made.batches[0].books.rejected == 1
    again = make_plan(
        database,
        plan_input(members_of(first, second), NOON),
        lambda *_: None,
        on_chunk=lambda: None,
    )
    assert again.batches[0].books.enrolled == 2
    assert again.digest != made.digest


def test_a_batch_id_of_another_submission_is_refused_with_a_remedy(database: Database) -> None:
    store_roster(database, ["A"], ["M1", "M2"])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1")).model_dump_json())
    with pytest.raises(PlanRefused, match="different submission used this batch id") as refused:
        make(database, members_of(chunk(pairs("A", "M2"))), lambda: None)
    assert "new batch id" in refused.value.refusal.remedy


def test_a_chunk_that_fails_is_named_with_its_lines(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code has a fault that one record meets."""

    def strike(
        connection: Connection, requests: Sequence[IncomingRequest], early: Documents | None
    ) -> RequestLookup:
        if any(r.request and "RAISES" in r.request.course_ids for r in requests):
            raise ZeroDivisionError("a fault of the code")
        return load_for_requests(connection, requests, early)

    monkeypatch.setattr(service, "load_for_requests", strike)
    store_roster(database, ["A"], ["M1"])
    chunks = (chunk(pairs("A", "M1"), last=False), chunk(pairs("A", "RAISES"), number=1, lines=[7]))
    before = everything(database)
    with pytest.raises(
        PlanRefused, match=r"Chunk 1 of the batch b \(line 7\) failed: ZeroDivisionError"
    ):
        make(database, members_of(*chunks), lambda: None)
    assert everything(database) == before


def test_a_failed_attempt_leaves_nothing_behind_that_the_next_one_reports(
    database: Database,
) -> None:
    """The worker loses its lease in the middle of the report."""
    store_roster(database, ["A"], ["M1"])
    refused = [{"line": line, "message": "no"} for line in range(1, 5_001)]
    members = members_of(chunk(refused=refused))
    calls = itertools.count()

    def lose() -> None:
        if next(calls) == 5:  # After the chunk, three pages of the digest, and a stored page.
            raise TimeoutError

    with pytest.raises(TimeoutError):
        make(database, members, lose)
    plan = plan_input(members, NOON)
    make_plan(database, plan, lambda *_: None, on_chunk=lambda: None)
    assert [refusal[0] for refusal in stored_refusals(database, "b")] == list(range(1, 5_001))


def test_two_reports_of_one_plan_are_not_mixed(sqlite_database: Database) -> None:
    """Another worker stores its own report between two pages, which PostgreSQL stores at once."""
    database = sqlite_database
    store_roster(database, ["A"], ["M1"])
    plan = plan_input(members_of(chunk(refused=[{"line": 1, "message": "no"}])), NOON)
    store_plan(database, plan)
    calls = itertools.count()

    def meddle() -> None:
        if next(calls) == 2:  # After the chunk, the digest and the stored page.
            with database.writing() as connection:
                add_planned_refusals(connection, "b", [("b", 1, "x", "another", "null", None)])

    with pytest.raises(PlanOvertaken):
        make_plan(database, plan, lambda *_: None, on_chunk=meddle)


def test_a_plan_says_what_unknown_ids_probably_mean(database: Database) -> None:
    """All ids have lost their zeros, as in a spreadsheet: the plan and the run say the same."""
    store_roster(database, ["007", "008"], ["M1"])
    requests = [pairs(student, "M1") for student in ("7", "8", "9")]
    payload = chunk(*requests).model_dump_json()
    (batch,) = planned(
        database, plan_input([Member("b", Kind.ENROLLMENTS, [payload], NOON)], NOON)
    ).batches
    (group,) = batch.refusals
    (cause,) = group.likely_causes
    assert cause.causes == (Cause.LEADING_ZEROS_LOST,)
    assert (cause.ids, group.examined) == (2, 3)

    apply_chunk(database, Kind.ENROLLMENTS, payload)
    (status,) = batch_statuses(database, ["b"], {}, refusals=True)
    assert batch.refusals == status.refusals


def test_the_likely_causes_know_the_rosters_of_the_package(database: Database) -> None:
    """The courses are new, and the file of enrollments has lost their zeros."""
    store_roster(database, ["A"], ["M1"])
    courses = chunk({"sis_id": "0101"}, {"sis_id": "0102"}, batch_id="c")
    enrollments = chunk(pairs("A", "0101"), pairs("A", "101"), pairs("A", "102"))
    members = [
        Member("c", Kind.COURSES, [courses.model_dump_json()], NOON),
        Member("b", Kind.ENROLLMENTS, [enrollments.model_dump_json()], NOON),
    ]
    *_, batch = planned(database, plan_input(members, NOON)).batches
    assert batch.books.enrolled == 1
    (group,) = batch.refusals
    (cause,) = group.likely_causes
    assert (cause.causes, cause.ids) == ((Cause.LEADING_ZEROS_LOST,), 2)
    assert [(each.id, each.meant) for each in cause.examples] == [
        ("101", ("0101",)),
        ("102", ("0102",)),
    ]
