"""A delivery of a chunk: it is applied, or becomes a dead letter whole. On both databases."""

import json
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from producer.contract.headers import BatchOrigin
from producer.contract.routing import KIND_TASKS
from producer.schemas import Code, Kind
from support.databases import dead_letters
from support.malformed import message
from support.staging import request
from worker.batches import opening
from worker.batches.repository import find_origins
from worker.batches.status import batch_statuses
from worker.data_sets.repository import data_set_key
from worker.database.engine import Database
from worker.enrollment.lookups import request_statuses
from worker.messaging.quarantine import keep_message
from worker.moments import own_clock
from worker.monitoring.events import Events
from worker.monitoring.metrics import Metrics
from worker.recovery.retry import retry_letter
from worker.tasks.delivery import ChunkDelivery

GOOD = {"student_id": "A", "course_ids": ["M1"]}
POISON = {
    "sqlite": [
        """CREATE TRIGGER poison BEFORE INSERT ON student_courses WHEN NEW.course_id = 3
        BEGIN SELECT RAISE(ABORT, 'a fault'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'a fault' USING ERRCODE = 'check_violation'; END $$""",
        """CREATE TRIGGER poison BEFORE INSERT ON student_courses FOR EACH ROW
        WHEN (NEW.course_id = 3) EXECUTE FUNCTION fault()""",
    ],
}
"""Statements that make every row of course M3 fail, whatever writes it."""


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    """A student A (key 1), and courses M1 to M3 (keys 1 to 3)."""
    with database.writing() as connection:
        connection.execute(text("INSERT INTO students (id, sis_id) VALUES (1, 'A')"))
        courses = "INSERT INTO courses (id, sis_id) VALUES (1, 'M1'), (2, 'M2'), (3, 'M3')"
        connection.execute(text(courses))


@pytest.fixture
def poison(database: Database) -> None:
    with database.writing() as connection:
        for statement in POISON[connection.dialect.name]:
            connection.execute(text(statement))


def chunk(*records: Any, **fields: Any) -> dict[str, Any]:
    return {"batch_id": "b", "number": 0, "last": True, "records": list(records), **fields}


def deliver(
    database: Database,
    *args: Any,
    kind: Kind = Kind.ENROLLMENTS,
    task_id: str = "task",
    how: str = "apply",
    **kwargs: Any,
) -> str | None:
    """Deliver a call of a task; return why it was refused, if it was."""
    delivery = ChunkDelivery(database, Events(Metrics()), kind, task_id, args, kwargs)
    getattr(delivery, how)()
    return delivery.refused


def books(database: Database) -> dict[str, int]:
    (status,) = batch_statuses(database, ["b"], {}, refusals=True)
    counts = status.books.model_dump()
    assert counts["received"] == sum(counts.values()) - counts["received"]
    return {name: count for name, count in counts.items() if count}


def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what a dead letter holds of a call."""
    task = KIND_TASKS[Kind.ENROLLMENTS].value
    return {"task": task, "task_id": "task", "args": list(args), "kwargs": kwargs}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_good_chunk_is_applied_and_leaves_no_dead_letter(
    database: Database, as_text: bool
) -> None:
    sent = chunk(GOOD, {"student_id": "Z", "course_ids": ["M1"]})
    assert deliver(database, json.dumps(sent) if as_text else sent) is None
    assert books(database) == {"received": 2, "enrolled": 1, "rejected": 1}
    assert dead_letters(database) == []


@pytest.mark.parametrize("how", ["apply", "isolate"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_repeated_chunk_changes_nothing_and_is_not_an_error(database: Database, how: str) -> None:
    sent = chunk(GOOD)
    assert deliver(database, sent) is None
    assert deliver(database, sent, task_id="again", how=how) is None
    assert books(database) == {"received": 1, "enrolled": 1}
    assert dead_letters(database) == []


def test_a_chunk_for_which_no_data_set_can_be_made_is_refused_at_once_and_can_be_retried(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAX_NAMED", 0)
    sent = chunk(GOOD, data_set="sis")
    reason = deliver(database, sent)
    assert reason is not None
    assert "enroll data-sets create sis" in reason
    (letter,) = dead_letters(database)
    assert (letter.reason, letter.detail) == ("not_processed", reason)
    with database.writing() as connection:
        data_set_key(connection, "sis", own_clock())
    retry_letter(database, letter.id)
    assert books(database) == {"received": 1, "enrolled": 1}
    assert dead_letters(database) == []


@pytest.mark.parametrize("how", ["apply", "isolate"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_different_chunk_under_the_same_number_becomes_a_dead_letter(
    database: Database, how: str
) -> None:
    deliver(database, chunk(GOOD), task_id="first")
    other = chunk({"student_id": "A", "course_ids": ["M2"]})
    refused = deliver(database, other, how=how)
    assert refused is not None
    assert "a different chunk was already applied" in refused
    assert books(database) == {"received": 1, "enrolled": 1}
    (letter,) = dead_letters(database)
    assert (letter.form, letter.reason, letter.detail) == ("call", "conflict", refused)
    assert (letter.task, letter.batch_id) == (KIND_TASKS[Kind.ENROLLMENTS], "b")
    assert json.loads(letter.content) == call(other)


def test_a_chunk_of_another_kind_than_its_batch_becomes_a_dead_letter(database: Database) -> None:
    deliver(database, chunk(GOOD))
    students = chunk({"sis_id": "B"}, number=1)
    assert deliver(database, students, kind=Kind.STUDENTS) is not None
    (letter,) = dead_letters(database)
    assert (letter.reason, letter.task) == ("conflict", KIND_TASKS[Kind.STUDENTS])
    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM students")) == 1


@pytest.mark.parametrize(
    ("args", "batch_id", "why"),
    [
        ([chunk(GOOD, number=-1)], "b", "number"),
        ([chunk(GOOD, batch_id="")], None, "batch_id"),
        ([json.dumps(chunk(GOOD, colour="red"))], "b", "colour"),
        (["no JSON"], None, "JSON"),
        ([7], None, ""),
        ([], None, ""),
        ([chunk(GOOD), "too many"], "b", ""),
    ],
)
def test_a_chunk_that_breaks_the_contract_becomes_a_dead_letter_whole(
    database: Database, args: list[Any], batch_id: str | None, why: str
) -> None:
    refused = deliver(database, *args)
    assert refused
    assert why in refused
    (letter,) = dead_letters(database)
    assert (letter.reason, letter.batch_id) == ("invalid_chunk", batch_id)
    assert json.loads(letter.content) == call(*args)
    assert books(database) == {}


def test_a_chunk_passed_by_keyword_becomes_a_dead_letter_whole(database: Database) -> None:
    assert deliver(database, chunk=chunk(GOOD)) is not None
    (letter,) = dead_letters(database)
    assert json.loads(letter.content) == call(chunk=chunk(GOOD))


def test_an_invalid_chunk_delivered_twice_becomes_one_dead_letter(database: Database) -> None:
    for _ in range(2):
        deliver(database, "no JSON")
    assert [letter.deliveries for letter in dead_letters(database)] == [2]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_isolating_applies_the_good_records_and_stores_the_others(
    database: Database, poison: None
) -> None:
    bad = {"student_id": "A", "course_ids": ["M3"]}
    own = {"student_id": "A", "course_ids": ["M2", "M3"], "request_id": "own"}
    sent = chunk(GOOD, bad, {"student_id": "A", "course_ids": ["M2"]}, own)
    with pytest.raises(Exception, match="a fault"):
        deliver(database, sent)
    assert books(database) == {}
    assert deliver(database, sent, how="isolate") is None
    assert books(database) == {"received": 5, "enrolled": 2, "rejected": 3}
    kept = dead_letters(database)
    assert [(letter.form, letter.request_id) for letter in kept] == [
        ("record", "b:0:1"),
        ("record", "own"),
    ]
    assert {letter.reason for letter in kept} == {"not_processed"}
    assert [json.loads(letter.content) for letter in kept] == [bad, own]
    assert "a fault" in kept[0].detail
    (status,) = request_statuses(database, ["own"], {})
    assert status.result is not None
    assert [problem.code for problem in status.result.errors] == [Code.NOT_PROCESSED]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_isolating_a_chunk_without_poison_applies_it(database: Database) -> None:
    assert deliver(database, chunk(GOOD), how="isolate") is None
    assert books(database) == {"received": 1, "enrolled": 1}
    assert dead_letters(database) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_isolating_an_unreadable_chunk_stores_it_whole(database: Database) -> None:
    refused = deliver(database, chunk(GOOD, number=-1), how="isolate")
    assert refused is not None
    assert "ValidationError" in refused
    (letter,) = dead_letters(database)
    assert (letter.form, letter.reason, letter.batch_id) == ("call", "not_processed", "b")


def test_giving_up_stores_the_chunk_whole_and_applies_nothing(database: Database) -> None:
    sent = chunk(GOOD)
    refused = deliver(database, sent, how="give_up")
    assert refused is not None
    assert "killed" in refused
    (letter,) = dead_letters(database)
    assert (letter.form, letter.reason, letter.batch_id) == ("call", "not_processed", "b")
    assert json.loads(letter.content) == call(sent)
    assert books(database) == {}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("of_plan", [False, True], ids=["applied", "stored for a plan"])
def test_a_chunk_that_fails_without_killing_its_worker_says_how(
    database: Database, *, of_plan: bool
) -> None:
    table = "staged_chunks" if of_plan else "batch_chunks"
    with database.writing() as connection:
        for statement in POISON[connection.dialect.name]:
            in_table = statement.replace("student_courses", table)
            connection.execute(text(in_table.replace("NEW.course_id = 3", "NEW.number = 0")))
    plan = request().model_dump(mode="json") if of_plan else None
    sent = chunk(GOOD, plan=plan)
    delivery = ChunkDelivery(database, Events(Metrics()), Kind.ENROLLMENTS, "task", [sent], {})
    with pytest.raises(DBAPIError, match="a fault"):
        delivery.isolate()
    delivery.give_up()
    (letter,) = dead_letters(database)
    assert letter.detail == "it failed even without its poison records: a fault"


@pytest.mark.parametrize("as_message", [False, True], ids=["a call", "a message"])
def test_a_retried_chunk_keeps_where_it_came_from(database: Database, as_message: bool) -> None:
    origin = BatchOrigin("pairs.csv", "ada")
    task = KIND_TASKS[Kind.ENROLLMENTS].value
    if as_message:
        headers = {f"headers__{name}": text for name, text in origin.headers().items()}
        raw = json.dumps(message([[chunk(GOOD)], {}, {}], headers__task=task, **headers))
        keep_message(database, raw.encode(), "batches", "an earlier version refused it")
    else:
        delivery = ChunkDelivery(
            database, Events(Metrics()), Kind.ENROLLMENTS, "task", [chunk(GOOD)], {}, origin
        )
        delivery.give_up()
    (letter,) = dead_letters(database)
    assert retry_letter(database, letter.id) == "applied"
    with database.reading() as connection:
        assert find_origins(connection, ["b"]) == {"b": origin}
