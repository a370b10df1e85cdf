"""Enrollments belong to the data set of the batch that opened them. On both databases."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import event

from producer.contract.chunks import EnrollmentChunk
from producer.contract.headers import BatchOrigin
from support.databases import count_rows
from support.snapshots import Feeds, at, chunk_of, clock, deliver, grid, make_feeds
from worker import repository as enrollments
from worker.batches import opening
from worker.batches.apply import ChunkOutcome
from worker.batches.together import ReceivedChunk, apply_together
from worker.data_sets import repository as data_sets
from worker.data_sets.repository import TooManyDataSets, data_set_key
from worker.database.engine import Database
from worker.enrollment import clean_results, shortcuts
from worker.models import Batch, StudentCourse
from worker.plan_models import DataSet


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, students=9, courses=2)


@pytest.fixture(params=["few", "many"])
def size(request: pytest.FixtureRequest) -> Iterator[str]:
    """For "many", each chunk is treated like one that is large enough for COPY."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many":
            for module in (shortcuts, clean_results, enrollments):
                patch.setattr(module, "COPY_ROWS", 1)
        yield request.param


def test_rows_that_a_chunk_opens_belong_to_its_data_set(feeds: Feeds, size: str) -> None:
    feeds.by_hand(at(0), enroll=grid([1]))
    feeds.batch("sis", grid([1, 2]), at(1))
    # A request that names an unknown course is left to the rulebook.
    records = [{"student_id": "S3", "course_ids": ["C1", "unknown"], "atomic": False}]
    deliver(feeds.database, chunk_of("own", (), "sis", records=records), at(1))
    own = [{"student_id": "S4", "course_ids": ["C1"], "request_id": "r"}]
    deliver(feeds.database, chunk_of("ids", (), "sis", records=own), at(1))
    feeds.batch(None, grid([5]), at(2))
    assert feeds.owners() == {
        ("S1", "C1"): None,
        ("S2", "C1"): "sis",
        ("S3", "C1"): "sis",
        ("S4", "C1"): "sis",
        ("S5", "C1"): None,
    }


def test_a_pair_that_opens_and_ends_within_a_chunk_keeps_its_owner(feeds: Feeds) -> None:
    records = [
        {"student_id": "S1", "course_ids": ["C1"]},
        {"student_id": "S1", "course_ids": [], "drop_course_ids": ["C1"]},
        {"student_id": "S1", "course_ids": ["C1"]},
    ]
    chunk = chunk_of("list", (), "sis", records=records)
    deliver(feeds.database, chunk.model_copy(update={"ordered": True}), at(1))
    with feeds.database.reading() as connection:
        past = connection.exec_driver_sql("SELECT data_set FROM past_enrollments").scalars().all()
    assert past == [feeds.key("sis")]
    assert feeds.owners() == {("S1", "C1"): "sis"}


@pytest.mark.parametrize("other", [None, "lms", "new"])
@pytest.mark.parametrize("is_group", [False, True])
def test_a_chunk_with_another_data_set_than_its_batch_is_a_conflict(
    feeds: Feeds,
    other: str | None,
    is_group: bool,
) -> None:
    feeds.batch("lms", grid([9]), at(0))
    deliver(feeds.database, chunk_of("b", grid([1]), "sis", last=False), at(1))
    chunk = chunk_of("b", grid([2]), other, number=1)
    if is_group:
        chunks = [chunk, chunk_of("c", grid([3]), "sis")]
        received = [ReceivedChunk(each, 1, BatchOrigin(moment=at(1))) for each in chunks]
        outcomes = [each.outcome for each in apply_together(feeds.database, received, clock=clock)]
        assert outcomes == [ChunkOutcome.CONFLICT, ChunkOutcome.APPLIED]
    else:
        assert deliver(feeds.database, chunk, at(1)).outcome is ChunkOutcome.CONFLICT
    assert feeds.key("new") is None
    assert ("S2", "C1") not in feeds.pairs()


def test_chunks_of_data_sets_are_applied_together_with_others(feeds: Feeds) -> None:
    received = [
        ReceivedChunk(chunk_of("b1", grid([1]), "sis"), 1, BatchOrigin(moment=at(1))),
        ReceivedChunk(chunk_of("b2", grid([2])), 2, BatchOrigin(moment=at(2))),
        ReceivedChunk(chunk_of("b3", grid([1, 3]), "lms"), 3, BatchOrigin(moment=at(3))),
        ReceivedChunk(chunk_of("b4", grid([4]), "sis"), 4, BatchOrigin(moment=at(4))),
    ]
    applied = apply_together(feeds.database, received, clock=clock)
    assert {each.outcome for each in applied} == {ChunkOutcome.APPLIED}
    assert feeds.owners() == {
        ("S1", "C1"): "sis",
        ("S2", "C1"): None,
        ("S3", "C1"): "lms",
        ("S4", "C1"): "sis",
    }
    assert feeds.notes() == {(("S1", "C1"), "lms"): at(3)}


def test_a_batch_without_a_data_set_needs_no_further_statement(feeds: Feeds) -> None:
    def statements(data_set: str | None, student: int) -> list[str]:
        sent: list[str] = []

        def listen(*args: object) -> None:
            sent.append(str(args[2]))

        engine = feeds.database.engine
        event.listen(engine, "before_cursor_execute", listen)
        feeds.batch(data_set, grid([student]), at(1))
        feeds.by_hand(at(2), drop=grid([student]))
        event.remove(engine, "before_cursor_execute", listen)
        return sent

    def of_data_sets(sent: list[str]) -> list[str]:
        tables = ("data_sets", "also_enrolled_by")
        return [
            one for one in sent if any(f"FROM {t}" in one or f"INTO {t}" in one for t in tables)
        ]

    plain = of_data_sets(statements(None, 1))
    # The drop asks whether there are notes within a statement that it needs anyhow.
    assert all("retention_limit" in one for one in plain)
    named = of_data_sets(statements("sis", 2))
    assert len(named) > len(plain)


def test_many_transactions_make_one_data_set_each_name_once(database: Database) -> None:
    keys: list[int] = []

    def make(name: str) -> None:
        with database.writing() as connection:
            keys.append(data_set_key(connection, name, at(0)))

    threads = [threading.Thread(target=make, args=(f"d{i % 3}",)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(keys) == 9
    assert len(set(keys)) == count_rows(database, DataSet) == 3


def test_there_is_a_largest_number_of_data_sets(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sets, "MAX_DATA_SETS", 1)
    with database.writing() as connection:
        assert data_set_key(connection, "a", at(0)) == data_set_key(connection, "a", at(1)) == 1
        with pytest.raises(TooManyDataSets, match="data-sets list"):
            data_set_key(connection, "b", at(0))
    assert count_rows(database, StudentCourse) == 0


def test_batches_leave_data_sets_for_the_operator(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAX_NAMED", 1)
    make_feeds(database, students=1, courses=1)
    deliver(database, chunk_of("b", grid([1]), "a"), at(0))
    with pytest.raises(TooManyDataSets, match=r"1 already.*enroll data-sets create 'x y'"):
        deliver(database, chunk_of("c", grid([1]), "x y"), at(1))
    with database.writing() as connection:
        assert data_set_key(connection, "x y", at(0)) == 2
    deliver(database, chunk_of("c", grid([1]), "x y"), at(1))
    assert count_rows(database, Batch) == 2


def test_the_name_travels_with_the_chunk() -> None:
    text = chunk_of("b", grid([1]), "sis:2026-fall").model_dump_json()
    assert EnrollmentChunk.model_validate_json(text).data_set == "sis:2026-fall"
