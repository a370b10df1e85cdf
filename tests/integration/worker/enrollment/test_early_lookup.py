"""On PostgreSQL, what requests name is looked up as their transaction begins."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, event, insert, text, update

from support.databases import store_roster
from worker.database.engine import Database
from worker.database.enrollment_lock import lock_enrollments
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.enrollment.loading.repository import early_lookup, load_for_requests
from worker.enrollment.values import RequestLookup
from worker.models import RetentionLimit
from worker.plan_models import AlsoEnrolledBy
from worker.service import add_enrollments

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
IDS = [
    *(
        "A",
        'q"u',
        "b\\s",
        "{a,b}",
        "NULL",
        "it's",
        "100%",
        "%(since)s",
        "%%",
        "$1",
        "a b",
        ",",
        '""',
    ),
    *("é", "\u202e", "\U0001f600", "a\tb", "\\N", "\\"),
]


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def request(
    name: str, minute: float, students: str | int, *courses: str | int, field: str = "course_ids"
) -> IncomingRequest:
    record = {"request_id": name, "student_id": students, field: list(courses)}
    return read_request(name, [record], {}, at(minute))


def decide(database: Database, *requests: IncomingRequest) -> list[str]:
    decided = add_enrollments(database, requests, clock=lambda: at(600)).decided
    return [decision.result.status.value for decision in decided]


def load_early(connection: Connection, requests: Sequence[IncomingRequest]) -> RequestLookup:
    lookup = early_lookup(connection, requests)
    assert lookup is not None
    documents = lookup.documents(lock_enrollments(connection, exclusive=False, query=lookup.query))
    assert documents is not None
    return load_for_requests(connection, requests, documents)


def test_an_early_look_up_finds_what_the_usual_one_does(database: Database) -> None:
    store_roster(database, IDS, IDS)
    decide(database, *(request(f"r{i}", n, i, i) for n, i in enumerate(IDS)))
    decide(database, request("drops", 30, "A", "A", field="drop_course_ids"))
    with database.writing() as connection:
        connection.execute(update(RetentionLimit).values(moment=at(-5) + timedelta(microseconds=1)))
        note = {"student_id": 1, "course_id": 1, "data_set": 1, "moment": at(1)}
        connection.execute(insert(AlsoEnrolledBy), note)
    requests = [
        *(request(f"r{i}", 20, i, *IDS) for i in IDS),
        request("by key", 21, 1, 1, 2, 1000),
        request("unknown", 22, "unknown", "unknown"),
    ]
    with database.writing() as connection:
        early = load_early(connection, requests)
        usual = load_for_requests(connection, requests)
    assert early.now is not None
    assert usual.now is not None
    assert timedelta(0) <= usual.now - early.now < timedelta(minutes=1)
    assert early._replace(now=None) == usual._replace(now=None)
    assert len(early.students) == len(IDS) + 1
    assert early.drops is not None
    assert (early.drops.limit, early.drops.has_notes) == (at(-5) + timedelta(microseconds=1), True)
    assert early.drops.ended is not None
    assert list(early.drops.ended.values()) == [at(30)]


def test_only_the_rows_of_a_lone_request_need_a_statement_of_their_own(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    statements: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda *about: statements.append(about[2])
    )
    assert decide(database, request("first", 0, "A", "M1")) == ["enrolled"]
    assert [statement.split()[0] for statement in statements] == ["INSERT"]


def test_a_drop_between_a_lying_header_and_the_clock_wins(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    decide(database, request("drops", 599, "A", "M1", field="drop_course_ids"))
    with database.writing() as connection:
        connection.execute(text("UPDATE past_enrollments SET ended_at = :at"), {"at": at(603)})
    assert decide(database, request("ahead", 700, "A", "M1")) == ["superseded"]


@pytest.mark.parametrize("name", ["a\0", "a\ud800"])
def test_an_id_that_cannot_be_sent_as_it_is_takes_the_usual_way(
    database: Database, name: str
) -> None:
    incoming = request("r", 0, "A", "M1")
    with database.reading() as connection:
        assert early_lookup(connection, [incoming]) is not None
        assert early_lookup(connection, [incoming._replace(request_id=name)]) is None


def test_an_early_look_up_works_again_after_a_rollback(database: Database) -> None:
    """The driver then removes all prepared statements of the session."""
    store_roster(database, ["A"], ["M1"])
    incoming = request("r", 0, "A", "M1")
    for _ in range(3):
        with suppress(ZeroDivisionError), database.writing() as connection:
            assert load_early(connection, [incoming]).students == {"A": 1}
            connection.execute(text("SELECT 1"))
            raise ZeroDivisionError


def test_a_request_is_decided_if_its_early_look_up_fails(database: Database) -> None:
    store_roster(database, ["A"], ["M1", "M2"])
    decide(database, request("first", 0, "A", "M1"))
    with database.writing() as connection:
        connection.execute(text("DEALLOCATE ALL"))
    assert decide(database, request("second", 1, "A", "M2")) == ["enrolled"]
    with database.writing() as connection:
        load_early(connection, [request("third", 2, "A", "M1")])
