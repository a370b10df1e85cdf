"""A plan waits while its database refuses to work, says why, and goes on soon after that."""

import threading
import uuid
from contextlib import closing

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from producer.contract.keys import Keys
from producer.contract.plans import Decision, PlanState
from producer.schemas import Kind
from support.chunks import apply_chunk, pairs, status
from support.copies import Administer, as_role, name_of
from support.databases import opened_database, store_roster, url_of
from support.staging import advance, chunks_of, make_due, request, stage, work_on
from support.waiting import wait_for
from worker.database.engine import Database
from worker.database.errors import is_lock
from worker.messaging.attempts import Attempts
from worker.messaging.unavailable import DatabaseUnavailable
from worker.moments import own_clock
from worker.monitoring.plan_checks import check_waiting_plans
from worker.plans.advance import PlanWork, advance_next
from worker.plans.applying import StoredChunk
from worker.plans.decisions import DecisionRefused, decide
from worker.plans.reports.lookups import plan_status
from worker.recovery.retry_policy import RetryPolicy

HELD = request(hold="always")


def test_a_plan_waits_for_a_missing_right_and_says_which(
    administer: Administer, postgres_url: str
) -> None:
    role, name = f"r{uuid.uuid4().hex}", name_of(postgres_url)
    administer(f"CREATE ROLE {role} LOGIN")
    with (
        opened_database(postgres_url) as owner,
        opened_database(as_role(postgres_url, role)) as database,
    ):
        store_roster(owner, ["A"], ["M1"])
        with owner.writing() as connection:
            connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
        administer(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        (only,) = chunks_of(HELD, [pairs("A", "M1")])
        stage(database, only)
        with pytest.raises(DBAPIError):
            advance(database)
        waits = plan_status(database, "b")
        assert waits.state is PlanState.STAGED
        assert waits.advice is not None
        assert "The database refuses to work: The role" in waits.advice
        assert status(database).advice == waits.advice
        with database.reading() as connection:
            found, _ = check_waiting_plans(connection)
        assert "1 cannot continue; the first one is b: The database refuses" in found.found
        administer(waits.advice.partition("database: ")[2].partition(";")[0])
        make_due(database)
        held = advance(database)
        assert held.state is PlanState.HELD
        assert "refuses to work" not in str(held.advice)
        with database.reading() as connection:
            (found,) = check_waiting_plans(connection)
        assert "1 held" in found.found


class WithoutTemporaryRoom(Database):
    """A database of which only the disk for temporary tables is full."""

    def new_engine(self) -> Engine:
        engine = super().new_engine()
        limit = "PRAGMA temp.max_page_count = 4"
        event.listen(engine, "connect", lambda connection, _: connection.execute(limit))
        return engine


def test_a_plan_that_has_no_room_for_its_tables_says_so(sqlite_database: Database) -> None:
    roomy = sqlite_database
    with closing(WithoutTemporaryRoom(url_of(roomy))) as full:
        store_roster(roomy, ["A"], ["M1"])
        (only,) = chunks_of(HELD, [pairs("A", "M1")])
        stage(roomy, only)
        with pytest.raises(DBAPIError):
            advance(full)
        assert "could not be made yet: The database is unavailable: database or disk is full" in (
            str(plan_status(roomy, "b").advice)
        )
        make_due(roomy)
        assert advance(roomy).state is PlanState.HELD


def test_a_plan_need_not_wait_for_its_lease_after_a_short_outage(
    administer: Administer, postgres_url: str
) -> None:
    name = name_of(postgres_url)
    back = threading.Timer(0.3, administer, [f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"])

    def apply(_: StoredChunk) -> str | None:
        administer(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608
            f" WHERE datname = '{name}'"
        )
        back.start()
        apply_chunk(database, Kind.ENROLLMENTS, only)
        return None

    with opened_database(postgres_url) as database:
        store_roster(database, ["A"], ["M1"])
        (only,) = chunks_of(request(), [pairs("A", "M1")])
        stage(database, only)
        assert advance_next(PlanWork(database, apply, own_clock))  # It is made.
        assert advance_next(PlanWork(database, apply, own_clock))  # It is approved.
        with pytest.raises(DBAPIError):
            advance_next(PlanWork(database, apply, own_clock))
        back.join()
        waits = plan_status(database, "b")
        assert waits.state is PlanState.APPLYING
        # The outage is over, so the plan goes on: there is no reason to give it up.
        assert waits.advice is None
        with pytest.raises(DecisionRefused, match="already being applied"):
            decide(database, "b", Decision.DISCARD, None)
        make_due(database)
        assert advance(database).advice is None


def test_a_plan_whose_table_is_locked_keeps_no_process_and_goes_on_soon_after(
    postgres_database: Database,
) -> None:
    database = postgres_database
    locking = database.new_engine()

    def apply(chunk: StoredChunk) -> str | None:
        other.execute(text("LOCK TABLE plans IN ACCESS EXCLUSIVE MODE"))
        return work_on(database).apply(chunk)

    store_roster(database, ["A"], ["M1"])
    (only,) = chunks_of(request(), [pairs("A", "M1")])
    stage(database, only)
    work = PlanWork(database, apply, own_clock)
    with closing(locking.connect()) as other:
        assert [advance_next(work), advance_next(work)] == [True, True]  # It is made and approved.
        with pytest.raises(DBAPIError) as error:
            advance_next(work)
        assert is_lock(error.value)
        # This process is free again, although the plan cannot be given back yet.
        other.rollback()
        wait_for(lambda: is_given_back(database))
    locking.dispose()
    make_due(database)
    assert advance(database).state is PlanState.DONE


def is_given_back(database: Database) -> bool:
    """Return whether a plan is due before its lease would end."""
    with database.reading() as connection:
        due = "SELECT due_at < now() + interval '20 seconds' FROM plans"
        return bool(connection.execute(text(due)).scalar_one())


def test_a_plan_that_is_being_applied_says_what_the_database_refuses(
    database: Database, broker_url: str
) -> None:
    """Its chunks go through the retries of a message, which report an outage in their own way."""
    attempts = Attempts(broker_url, "plans", 3, Keys())
    policy = RetryPolicy(database, attempts, 0, lambda _: None, lambda _: None, lambda: None)

    def apply(chunk: StoredChunk) -> str | None:
        return policy.or_requeue(lambda: work_on(database).apply(chunk))

    def rename(old: str, new: str) -> None:
        with database.writing() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    store_roster(database, ["A"], ["M1"])
    (only,) = chunks_of(request(), [pairs("A", "M1")])
    stage(database, only)
    work = work_on(database)._replace(apply=apply)
    assert [advance_next(work), advance_next(work)] == [True, True]  # It is made and approved.
    rename("student_courses", "elsewhere")
    for _ in range(4):  # After three, the policy pauses, and does not ask the database.
        with pytest.raises(DatabaseUnavailable):
            advance_next(work)
        waits = plan_status(database, "b")
        assert waits.state is PlanState.APPLYING
        assert "It cannot continue: The database " in str(waits.advice)
        assert "student_courses" in str(waits.advice)
        make_due(database)
    rename("elsewhere", "student_courses")
    done = advance(database)
    assert (done.state, done.advice) == (PlanState.DONE, None)
