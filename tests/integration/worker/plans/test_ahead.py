"""Chunks of a plan are looked up ahead, and the plan is the same as without that."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, make_url, select, text, update
from sqlalchemy.exc import DBAPIError

from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import chunk, pairs
from support.databases import opened_database, store_roster
from support.planning import Member, plan_input, planned, store_plan
from support.waiting import wait_for
from worker.batches.apply import apply_chunk
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.engine import Database
from worker.database.shared_snapshot import share_snapshot
from worker.database.temporary_tables import planning_connection, seal
from worker.models import Student
from worker.plans.stored import Stored
from worker.plans.temporary.ahead import DEPTH, FIRST, read_ahead
from worker.plans.temporary.making import PlanInput, make_plan

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
TEXTS = [str(number) for number in range(FIRST + DEPTH + 3)]


def count_students(connection: Connection, chunk: str) -> tuple[str, int]:
    return chunk, connection.scalar(select(func.count()).select_from(Student)) or 0


@pytest.fixture
def planning(postgres_database: Database) -> Iterator[Connection]:
    """The connection of a plan that was opened when there were two students."""
    store_roster(postgres_database, ["A", "B"], ["M1"])
    with planning_connection(postgres_database, stores_results=False) as connection:
        seal(connection)
        yield connection


def test_chunks_are_read_in_the_snapshot_of_the_plan(
    postgres_database: Database, planning: Connection
) -> None:
    with postgres_database.writing() as connection:
        connection.execute(insert(Student).values(sis_id="C"))
    with read_ahead(postgres_database, lambda: share_snapshot(planning)) as ahead:
        read = list(ahead.each(TEXTS, count_students))
    assert read[:FIRST] == [(text, None) for text in TEXTS[:FIRST]]
    assert read[FIRST:] == [(text, (text, 2)) for text in TEXTS[FIRST:]]


def test_what_is_looked_up_ahead_cannot_change_anything(
    postgres_database: Database, planning: Connection
) -> None:
    errors: list[str] = []

    def write(connection: Connection, _: str) -> None:
        try:
            connection.execute(update(Student).values(name="changed"))
        except DBAPIError as error:
            errors.append(str(error.orig))
            raise

    with read_ahead(postgres_database, lambda: share_snapshot(planning)) as ahead:
        assert [text for text, _ in ahead.each(TEXTS, write)] == TEXTS
    assert "read-only transaction" in errors[0]


def lose_connection(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")


def divide_by_zero(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT 1 / 0")


@pytest.mark.parametrize("fail", [lose_connection, divide_by_zero])
def test_after_a_chunk_that_cannot_be_read_no_other_is_read_ahead(
    postgres_database: Database, planning: Connection, fail: Callable[[Connection], None]
) -> None:
    def fail_at_first(connection: Connection, text: str) -> str:
        if text == TEXTS[FIRST]:
            fail(connection)
        return text

    with read_ahead(postgres_database, lambda: share_snapshot(planning)) as ahead:
        read = list(ahead.each(TEXTS, fail_at_first))
    assert [text for text, _ in read] == TEXTS
    assert read[FIRST] == (TEXTS[FIRST], None)
    assert read[-1] == (TEXTS[-1], None)


def test_connections_of_a_plan_are_closed_when_it_is_made(
    postgres_database: Database, planning: Connection
) -> None:
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid NOT IN (pg_backend_pid(), :planning)"
    )
    values = {"planning": planning.scalar(text("SELECT pg_backend_pid()"))}

    def count() -> int:
        with postgres_database.reading() as connection:
            return connection.scalar(others, values) or 0

    before = count()
    with read_ahead(postgres_database, lambda: share_snapshot(planning)) as ahead:
        list(ahead.each(TEXTS, count_students))
        assert count() > before
    wait_for(lambda: count() == before)


def test_a_snapshot_is_not_shared_on_sqlite_or_behind_a_pooler(
    sqlite_database: Database, postgres_url: str
) -> None:
    pooled = make_url(postgres_url).update_query_dict({"pool_mode": "transaction"})
    with opened_database(pooled.render_as_string(hide_password=False)) as behind_a_pooler:
        for database in (sqlite_database, behind_a_pooler):
            with planning_connection(database, stores_results=False) as connection:
                seal(connection)
                assert share_snapshot(connection) is None


def test_a_snapshot_is_not_shared_without_the_right(postgres_database: Database) -> None:
    with postgres_database.writing() as connection:
        connection.exec_driver_sql("CREATE ROLE plain LOGIN")
        connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
        right = "EXECUTE ON FUNCTION pg_export_snapshot()"
        connection.exec_driver_sql(f"REVOKE {right} FROM PUBLIC")
    url = make_url(postgres_database.url).set(username="plain", password=None)
    try:
        with (
            opened_database(url.render_as_string(hide_password=False)) as database,
            planning_connection(database, stores_results=False) as planning,
        ):
            assert share_snapshot(planning) is None
    finally:
        with postgres_database.writing() as connection:
            connection.exec_driver_sql("DROP OWNED BY plain")
            connection.exec_driver_sql("DROP ROLE plain")


# --- the plan is the same -----------------------------------------------------------------------

STUDENTS = [f"S{n}" for n in range(12)]
COURSES = ["M1", "M2", "M3"]


def nightly(database: Database) -> int:
    """Let a data set own enrollments of which some were dropped or belong to others."""
    store_roster(database, STUDENTS, COURSES)
    owned = chunk(*(pairs(s, "M1", "M2") for s in STUDENTS), batch_id="first", data_set="sis")
    foreign = chunk(pairs("S10", "M3"), batch_id="foreign", data_set="other")
    dropped = chunk({"student_id": "S8", "drop_course_ids": ["M2"]}, batch_id="dropped")
    late = chunk({"student_id": "S9", "drop_course_ids": ["M1"]}, batch_id="late")
    for each, moment in ((owned, NOON), (foreign, NOON), (dropped, NOON + timedelta(minutes=1))):
        apply(database, each, moment)
    apply(database, late, LATER + timedelta(minutes=1))
    with database.writing() as connection:
        key = data_set_key(connection, "sis", NOON)
        allow_snapshots(connection, key)
    return key


def apply(database: Database, each: Any, moment: datetime) -> None:
    origin = BatchOrigin(moment=moment)
    apply_chunk(database, Kind.ENROLLMENTS, each.model_dump_json(), origin=origin)


def night(data_set: int, *, snapshot: bool) -> PlanInput:
    """Return the plan of a file with a student in each chunk; it names each kind of request."""
    named = [pairs(s, "M1", "M2") for s in STUDENTS[:-1]]
    named[5] = pairs("S5", "M1")  # Drops M2, as a snapshot.
    named[6] = pairs("S4", "M1")  # A repeated line instead of another student.
    named[7] = pairs("unknown", "M1")
    named.append(pairs("S10", "M3", "M9"))
    texts = [
        chunk(
            record, pairs("S0", "M2"), number=i, data_set="sis", last=i == len(named) - 1
        ).model_dump_json()
        for i, record in enumerate(named)
    ]
    member = Member("b", Kind.ENROLLMENTS, texts, LATER)
    return plan_input([member], LATER, data_set, snapshot=snapshot)


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_plan_is_the_same_whether_or_not_its_chunks_are_read_ahead(
    postgres_database: Database, *, snapshot: bool
) -> None:
    plan = night(nightly(postgres_database), snapshot=snapshot)
    ahead = planned(postgres_database, plan)
    again = make_plan(
        postgres_database,
        plan._replace(reads_ahead=False),
        lambda *_: None,
        on_chunk=lambda: None,
    )
    assert (ahead.batches, ahead.absence) == (again.batches, again.absence)
    assert ahead.batches[0].books.already_enrolled > 0
    assert ahead.batches[0].books.rejected > 0


@pytest.mark.parametrize("reads_ahead", [True, False])
def test_a_plan_reads_no_chunk_too_early_if_that_is_not_wanted(
    postgres_database: Database, *, reads_ahead: bool
) -> None:
    """A worker that plans after others were lost stores which chunk it is at."""
    plan = night(nightly(postgres_database), snapshot=False)
    (batch,) = plan.batches
    taken: list[Stored] = []

    def noting(chunks: Callable[[], Iterator[Stored]]) -> Iterator[Stored]:
        for stored in chunks():
            taken.append(stored)
            yield stored

    watched = batch._replace(chunks=lambda: noting(batch.chunks))
    plan = plan._replace(batches=[watched], reads_ahead=reads_ahead)
    store_plan(postgres_database, plan)
    early: list[int] = []
    done = 0

    def on_chunk() -> None:
        nonlocal done
        done += 1
        early.append(len(taken) - done)

    make_plan(postgres_database, plan, lambda *_: None, on_chunk=on_chunk)
    assert (max(early[: len(STUDENTS)]) > 0) is reads_ahead
