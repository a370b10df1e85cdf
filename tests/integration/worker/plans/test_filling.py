"""A plan copies what a chunk names only for requests that change something."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from sqlalchemy import column, select, table, text

from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import chunk, pairs
from support.databases import store_roster
from worker.batches.apply import apply_chunk, read_chunk
from worker.data_sets.repository import data_set_key
from worker.data_sets.values import Owner
from worker.database.engine import Database
from worker.database.temporary_tables import FILLED_STUDENTS, planning_connection, seal
from worker.enrollment.values import Times
from worker.plans.temporary.filling import Decided, Filling
from worker.plans.temporary.names import Scan
from worker.plans.temporary.repository import RealRows, Since
from worker.snapshots.named import create_named_pairs
from worker.snapshots.repository import add_named, count_named

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
OWNED = [("A", "M1"), ("B", "M1"), ("C", "M1"), ("C", "M2")]
KEYS_OF_OWNED = [(1, 1), (2, 1), (3, 1), (3, 2)]
FOREIGN, NEW = ("D", "M1"), ("A", "M2")


def submit(database: Database, batch_id: str, moment: datetime, *records: object) -> None:
    data_set = "sis" if batch_id == "sis" else None
    payload = chunk(*records, batch_id=batch_id, data_set=data_set).model_dump_json()
    apply_chunk(database, Kind.ENROLLMENTS, payload, origin=BatchOrigin(None, None, moment))


@pytest.fixture
def owner(database: Database) -> Owner:
    """A data set that owns enrollments, beside one that has no owner."""
    store_roster(database, ["A", "B", "C", "D"], ["M1", "M2"])
    submit(database, "sis", NOON, *(pairs(*pair) for pair in OWNED))
    submit(database, "by-hand", NOON, pairs(*FOREIGN))
    with database.writing() as connection:
        return Owner(data_set_key(connection, "sis", NOON), None)


class Made(NamedTuple):
    """What a plan made of a chunk."""

    decided: Decided
    filled: set[int]
    """The students whose enrollments were copied."""
    already_enrolled: int
    """The rows that the shortcut counted as enrolled already."""


def decide(
    database: Database,
    named: Iterable[tuple[str, str]],
    owner: Owner | None,
    *,
    may_drop: bool = False,
) -> Made:
    """Decide requests for these pairs as a plan does."""
    payload = chunk(*(pairs(*pair) for pair in named)).model_dump_json()
    read, _ = read_chunk(Kind.ENROLLMENTS, payload)
    with planning_connection(database, stores_results=may_drop) as connection:
        seal(connection)
        filling = Filling(RealRows(connection), Scan(may_drop), Since(None, None))
        result = filling.decide(
            connection, read, {}, Times(LATER, LATER, LATER, LATER), True, owner
        )
        filled = connection.scalars(select(table(FILLED_STUDENTS, column("id")).c.id))
        decided = filling.take_decided(read)
        return Made(decided, set(filled), result.rows - result.changed)


def test_nothing_is_copied_for_requests_that_only_confirm(database: Database, owner: Owner) -> None:
    assert decide(database, OWNED, owner) == (Decided(KEYS_OF_OWNED, []), set(), 4)


def test_what_requests_name_that_change_something_is_copied(
    database: Database, owner: Owner
) -> None:
    made = decide(database, [*OWNED, NEW, FOREIGN], owner)
    assert made == (Decided(KEYS_OF_OWNED, [4, 5]), {1, 4}, 4)


def test_without_a_data_set_it_does_not_matter_who_owns_an_enrollment(
    database: Database, owner: Owner
) -> None:
    assert owner
    made = decide(database, [*OWNED, FOREIGN], None)
    assert made == (Decided([*KEYS_OF_OWNED, (4, 1)], []), set(), 5)


def test_a_chunk_of_which_much_is_new_is_copied_as_a_whole(
    database: Database, owner: Owner
) -> None:
    made = decide(database, [("A", "M1"), NEW, ("B", "M2"), ("D", "M2")], owner)
    named = [(1, 1), (1, 2), (2, 2), (4, 2)]
    assert made == (Decided(named, []), {1, 2, 4}, 1)


def test_a_chunk_is_copied_if_a_later_drop_may_win(database: Database, owner: Owner) -> None:
    drop = {"student_id": "A", "course_ids": [], "drop_course_ids": ["M1"]}
    submit(database, "later", LATER + timedelta(minutes=1), drop)
    made = decide(database, OWNED, owner)
    assert (made.decided, made.filled) == (Decided((), range(4)), {1, 2, 3})


def test_a_plan_that_may_drop_copies_everything(database: Database, owner: Owner) -> None:
    made = decide(database, OWNED, owner, may_drop=True)
    assert (made.decided, made.filled) == (Decided(KEYS_OF_OWNED, []), {1, 2, 3})


def test_very_many_pairs_are_named_at_once(postgres_database: Database) -> None:
    """As every other number of pairs is; only the way into the table differs."""
    named = [(student, course) for student in range(1, 151) for course in (1, 2**31 - 1)]
    with planning_connection(postgres_database, stores_results=False) as connection:
        create_named_pairs(connection)
        seal(connection)
        add_named(connection, named, {})
        rows = connection.execute(text("SELECT student_id, course_id FROM snapshot_named"))
        assert sorted(tuple(row) for row in rows) == named
        assert count_named(connection, 1) == len(named)
