"""Rosters in any order: each field has the value of the latest record. On both databases."""

import random
import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import books, chunk
from support.databases import clear_roster
from support.order_model import Record
from worker.batches.apply import apply_chunk
from worker.database.engine import Database
from worker.models import Student
from worker.roster.repository import fields_of

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STEP = timedelta(microseconds=1)
VALUES = ["a", "b", "B", "é", "z", "Z", "\U0001f600", "\uffee", "ß"]
"""Values whose order depends on the language everywhere but by code point."""

deliveries = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.lists(
            st.fixed_dictionaries(
                {"sis_id": st.sampled_from("AB")},
                optional={
                    "name": st.sampled_from(VALUES),
                    "email": st.sampled_from(VALUES),
                    "as_of": st.sampled_from([NOON + n * STEP for n in range(5)]),
                },
            ),
            max_size=4,
        ),
    ),
    max_size=6,
)


def at(moment: datetime) -> BatchOrigin:
    return BatchOrigin(moment=moment)


def deliver(database: Database, name: str, moment: datetime, records: Sequence[Any]) -> None:
    sent = chunk(*records, batch_id=name).model_dump_json()
    apply_chunk(database, Kind.STUDENTS, sent, origin=at(moment))


def students(database: Database) -> dict[str, dict[str, str]]:
    with database.reading() as connection:
        rows = connection.execute(select(*Student.__table__.columns)).all()
    named = fields_of(Student)
    return {
        row.sis_id: {name: getattr(row, name) for name in named if getattr(row, name) is not None}
        for row in rows
    }


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sent=deliveries, chance=st.randoms(use_true_random=False))
def test_the_roster_depends_on_moments_and_not_on_the_order_of_delivery(
    database: Database, sent: list[Any], chance: random.Random
) -> None:
    clear_roster(database)
    expected: defaultdict[str, Record] = defaultdict(Record)
    batches = []
    for number, (after, records) in enumerate(sent):
        moment = NOON + after * STEP
        batches.append((str(number), moment, records))
        for position, record in enumerate(records):
            fields = {n: v for n, v in record.items() if n in ("name", "email")}
            expected[record["sis_id"]].upsert(record.get("as_of", moment + position * STEP), fields)
    # Each twice: under its own name, which changes nothing, and as if a dead letter were retried.
    again = [(f"{name} again", moment, records) for name, moment, records in batches]
    delivered = [*batches, *batches, *again]
    chance.shuffle(delivered)
    for batch in delivered:
        deliver(database, *batch)
        books(database, batch[0])  # Its counts balance.
    assert students(database) == {sis_id: record.values() for sis_id, record in expected.items()}


def test_the_later_line_of_a_roster_wins_in_another_chunk_and_in_any_order(
    database: Database,
) -> None:
    parts = [
        chunk({"sis_id": "R", "name": "old"}, batch_id="b", number=0, last=False),
        chunk({"sis_id": "R", "name": "new"}, batch_id="b", number=1),
    ]
    for part in reversed(parts):
        apply_chunk(database, Kind.STUDENTS, part.model_dump_json(), origin=at(NOON))
    assert students(database)["R"] == {"name": "new"}
    assert books(database) == {"received": 2, "upserted": 1, "superseded": 1}


def test_a_record_is_superseded_only_if_all_its_fields_are(database: Database) -> None:
    deliver(database, "later", NOON + STEP, [{"sis_id": "R", "name": "new"}])
    deliver(database, "both", NOON, [{"sis_id": "R", "name": "old", "email": "r@x.edu"}])
    deliver(database, "old", NOON - STEP, [{"sis_id": "R", "name": "older", "email": "q@x.edu"}])
    assert students(database)["R"] == {"name": "new", "email": "r@x.edu"}
    assert books(database, "both") == {"received": 1, "upserted": 1}
    assert books(database, "old") == {"received": 1, "superseded": 1}


def test_an_unchanged_value_counts_from_its_later_moment_on(database: Database) -> None:
    for after in (0, 2, 1):
        name = "else" if after == 1 else "same"
        deliver(database, str(after), NOON + after * STEP, [{"sis_id": "R", "name": name}])
    assert students(database)["R"] == {"name": "same"}
    assert [books(database, str(n)) for n in (2, 1)] == [
        {"received": 1, "unchanged": 1},
        {"received": 1, "superseded": 1},
    ]


def test_a_line_that_a_later_line_replaces_is_superseded(database: Database) -> None:
    lines = [
        {"sis_id": "R", "name": "first"},
        {"sis_id": "R", "email": "r@x.edu"},
        {"sis_id": "R", "name": "last"},
        {"sis_id": "R"},
    ]
    deliver(database, "b", NOON, lines)
    assert students(database)["R"] == {"name": "last", "email": "r@x.edu"}
    assert books(database) == {"received": 4, "upserted": 1, "unchanged": 2, "superseded": 1}


def test_each_line_counts_for_itself_whatever_stands_in_the_same_chunk(database: Database) -> None:
    deliver(database, "later", NOON + STEP, [{"sis_id": "R", "name": "new"}])
    lines = [
        {"sis_id": "R", "email": "r@x.edu", "as_of": NOON},
        {"sis_id": "R", "name": "late", "as_of": NOON},
        {"sis_id": "R"},
    ]
    deliver(database, "b", NOON, lines)
    assert books(database) == {"received": 3, "upserted": 1, "unchanged": 1, "superseded": 1}


def test_a_value_without_a_moment_is_older_than_any(database: Database) -> None:
    """As an older version stored it."""
    with database.writing() as connection:
        connection.execute(insert(Student), {"sis_id": "R", "name": "z"})
    deliver(database, "b", datetime(1970, 1, 1, tzinfo=UTC), [{"sis_id": "R", "name": "a"}])
    assert students(database)["R"] == {"name": "a"}


def test_a_record_far_ahead_is_refused_and_names_the_clock(database: Database) -> None:
    sent = chunk(
        {"sis_id": "R", "name": "soon", "as_of": NOON + timedelta(minutes=5)},
        {"sis_id": "R", "name": "far", "as_of": NOON + timedelta(minutes=5, seconds=1)},
        lines=[2, 3],
    ).model_dump_json()
    applied = apply_chunk(database, Kind.STUDENTS, sent, origin=at(NOON), clock=lambda: NOON)
    assert applied.refused == {"invalid_request": 1}
    assert students(database)["R"] == {"name": "soon"}


def test_a_chunk_with_a_date_as_its_number_wins_for_minutes_and_not_for_days(
    database: Database,
) -> None:
    for number in (20_260_901, 2**31 - 1):
        sent = chunk({"sis_id": "R", "name": "z"}, batch_id=str(number), number=number)
        text = sent.model_dump_json()
        apply_chunk(database, Kind.STUDENTS, text, origin=at(NOON), clock=lambda: NOON)
    deliver(database, "later", NOON + timedelta(minutes=6), [{"sis_id": "R", "name": "a"}])
    assert students(database)["R"] == {"name": "a"}


@pytest.mark.parametrize("turn", range(3))
def test_rosters_at_the_same_time_cannot_block_each_other(database: Database, turn: int) -> None:
    """Known, unknown and just added students, in three transactions at once."""
    chance = random.Random(turn)  # noqa: S311 - repeatable
    start = threading.Barrier(3)
    failures: list[BaseException] = []

    def deliver_many(number: int) -> None:
        start.wait()
        try:
            for part in range(6):
                numbers = [chance.randrange(400) for _ in range(300)]
                value = {"name": f"{number} {part}"}
                records = [{"sis_id": f"S{n:03}", **value} for n in numbers]
                moment = NOON + timedelta(seconds=3 * part + number)
                deliver(database, f"{number} {part}", moment, records)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=deliver_many, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
