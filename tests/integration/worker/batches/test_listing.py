"""The list of batches is read in pages, whatever arrives between two of them. Both databases."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from producer.contract.batches import BatchPage, BatchState, BatchStatus
from producer.contract.chunks import Chunk
from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from support.chunks import chunk, pairs
from worker.batches import listing
from worker.batches.apply import apply_chunk
from worker.batches.listing import BatchSearch, batch_page
from worker.batches.state import STALLED_SECONDS
from worker.batches.status import batch_statuses, recent_batch_ids
from worker.database.engine import Database
from worker.dead_letters.letters import keep
from worker.dead_letters.repository import delete_dead_letter, find_dead_letters
from worker.models import Batch, BatchChunk, DeadLetter, LetterForm, LetterReason
from worker.recovery.isolate import call_letter

START = datetime(2026, 9, 1, 12, tzinfo=UTC)
IDS = ["a", "B", "b", "ä", "Z", "~", "10", "9", "\U0001f393", "\ufb01"]
SUBMITTERS = ["sis", "registrar"]
STATES = [BatchState.DONE, BatchState.RUNNING, BatchState.STALLED]


class Arrival(NamedTuple):
    """A batch that arrives, at most once under its id."""

    id: str
    minute: int
    kind: Kind
    submitter: str | None
    state: BatchState
    is_dated: bool
    """Whether its moment is stored; if not, an older version has applied it."""
    is_dead: bool
    """Whether all of its chunks are dead letters."""

    @property
    def place(self) -> tuple[datetime, str]:
        return START + self.minute * timedelta(minutes=1), self.id

    def is_wanted(self, search: BatchSearch) -> bool:
        """Return whether it is selected by what the database can select."""
        if self.is_dead:
            return search.kind is None and search.submitter is None
        is_of_submitter = search.submitter in (None, self.submitter)
        return is_of_submitter and search.kind in (None, self.kind)

    def is_in(self, state: BatchState | None) -> bool:
        return state in (None, BatchState.STALLED if self.is_dead else self.state)


arrivals = st.builds(
    Arrival,
    st.sampled_from(IDS),
    st.integers(0, 4),
    st.sampled_from(Kind),
    st.sampled_from([None, *SUBMITTERS]),
    st.sampled_from(STATES),
    st.integers(0, 3).map(bool),
    st.integers(0, 3).map(lambda n: n == 0),
)
states = st.sampled_from(STATES)
kinds = st.sampled_from(Kind)
submitters = st.sampled_from([*SUBMITTERS, "somebody else"])
nothing = st.none()
searches = st.one_of(
    *(
        st.builds(BatchSearch, nothing, state, kind, submitter)
        for state, kind, submitter in [
            (nothing, nothing, nothing),
            (states, nothing, nothing),
            (nothing, kinds, nothing),
            (nothing, nothing, submitters),
            (states, nothing, submitters),
            (states, kinds, submitters),
        ]
    )
)


@pytest.fixture
def statuses_of(database: Database) -> Callable[[list[str]], list[BatchStatus]]:
    return lambda ids: batch_statuses(database, ids, {}, refusals=False, with_files=False)


@contextmanager
def limits(examined: int, at_once: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "EXAMINED", examined)
        patch.setattr(listing, "AT_ONCE", at_once)
        yield


def store(database: Database, batch: Arrival) -> None:
    """Store a batch as the worker leaves it: its rows of the ledger, or its dead letter."""
    moment, now = batch.place[0], datetime.now(UTC)
    with database.writing() as connection:
        if batch.is_dead:
            letter = {
                "fingerprint": batch.id, "form": LetterForm.CALL, "reason": LetterReason.MALFORMED,
                "detail": "", "batch_id": batch.id, "content": b"", "deliveries": 1,
            }  # fmt: skip
            first_at, own = (now, moment) if batch.is_dated else (moment, None)
            times = {"first_at": first_at, "last_at": now, "moment": own}
            connection.execute(insert(DeadLetter).values(**letter, **times))
            return
        values = {"kind": batch.kind, "submitter": batch.submitter, "file_name": f"{batch.id}.csv"}
        stored = moment if batch.is_dated else None
        connection.execute(insert(Batch).values(id=batch.id, moment=stored, **values))
        connection.execute(insert(BatchChunk).values(**entry(batch, 0, now)))


def entry(batch: Arrival, number: int, now: datetime) -> dict[str, Any]:
    """Return a chunk's entry in the ledger, from which the state of its batch follows."""
    uncounted = ("requests_rejected", "enrolled", "already_enrolled", "upserted", "unchanged")
    return dict.fromkeys(uncounted, 0) | {
        "batch_id": batch.id,
        "number": number,
        "fingerprint": number,
        "last": batch.state is BatchState.DONE,
        "requests": 1,
        "requests_through": number + 1,
        "rows": 1,
        "rows_through": number + 1,
        "rejected": 1,
        "applied_at": now if batch.state is BatchState.RUNNING else batch.place[0],
    }


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    deadline=None,
)
@given(
    first=st.lists(arrivals, min_size=3, max_size=len(IDS), unique_by=lambda batch: batch.id),
    later=st.lists(st.lists(arrivals, max_size=2), max_size=6),
    search=searches,
    limit=st.integers(1, 4),
    examined=st.sampled_from([2, 3, 500]),
)
def test_pages_hold_each_batch_once_whatever_arrives_meanwhile(
    database: Database,
    first: list[Arrival],
    later: list[list[Arrival]],
    search: BatchSearch,
    limit: int,
    examined: int,
) -> None:
    clear(database)
    stored: dict[str, Arrival] = {}

    def arrive(batches: list[Arrival]) -> None:
        for batch in batches:
            # A batch that was running without a moment could not be told from one that stalled.
            if batch.state is BatchState.RUNNING and not batch.is_dated:
                batch = batch._replace(state=BatchState.STALLED)  # noqa: PLW2901
            if batch.id not in stored:
                stored[batch.id] = batch
                store(database, batch)

    arrive(first)
    listed_at_first = [*stored.values()]
    seen: list[str] = []
    place: Any = (datetime.max.replace(tzinfo=UTC), "")
    coming = iter(later)
    with limits(examined, at_once=2):
        while place is not None:
            asked: list[str] = []

            def statuses_of(ids: list[str]) -> list[BatchStatus]:
                asked.extend(ids)  # noqa: B023 - called before the next page
                return batch_statuses(database, ids, {}, refusals=False, with_files=False)

            page = batch_page(database, search, limit, statuses_of)
            check_page(page, [*stored.values()], search, place, limit)
            most = limit if search.state is None else max(limit, examined)
            assert len(asked) <= most
            has_ended_early = page.next is not None and len(page.batches) < limit
            assert not has_ended_early or len(asked) == most
            event(f"ended early: {has_ended_early}")
            seen += [status.batch_id for status in page.batches]
            place, search = page.next, search._replace(cursor=page.next)
            arrive(next(coming, []))
    wanted = {b.id for b in listed_at_first if b.is_wanted(search) and b.is_in(search.state)}
    assert wanted <= set(seen)
    assert len(seen) == len(set(seen))


def check_page(
    page: BatchPage,
    stored: list[Arrival],
    search: BatchSearch,
    after: tuple[datetime, str],
    limit: int,
) -> None:
    """Compare a page with what the model has between the cursor and the next one."""
    end = page.next or (START - timedelta(days=1), "")
    expected = [b for b in stored if b.is_wanted(search) and end <= b.place < after]
    expected = [b for b in expected if b.is_in(search.state)]
    expected.sort(key=lambda batch: batch.place, reverse=True)
    assert len(page.batches) <= limit
    assert [status.batch_id for status in page.batches] == [batch.id for batch in expected]
    for status, batch in zip(page.batches, expected, strict=True):
        assert status.submitted_at == batch.place[0]
        assert batch.is_in(status.state)
        assert status.kind == (None if batch.is_dead else batch.kind)
        assert status.submitter == (None if batch.is_dead else batch.submitter)
        assert status.file_name == (None if batch.is_dead else f"{batch.id}.csv")
        assert (status.columns, status.form, status.refusals) == (None, None, ())


def clear(database: Database) -> None:
    with database.writing() as connection:
        for table in (BatchChunk, Batch, DeadLetter):
            connection.execute(delete(table))


def apply(database: Database, part: Chunk, moment: datetime | None = None) -> None:
    """Apply a chunk of enrollments that was submitted at a moment, or now."""
    origin = BatchOrigin(moment=moment)
    apply_chunk(database, Kind.ENROLLMENTS, part.model_dump_json(), origin=origin)


def test_a_further_chunk_does_not_move_a_batch(
    database: Database, statuses_of: Callable[[list[str]], list[BatchStatus]]
) -> None:
    for number, batch_id in enumerate("xyz"):
        moment = START + number * timedelta(minutes=1)
        part = chunk(pairs("A", "M1"), batch_id=batch_id, last=False)
        apply(database, part, moment)
    first = batch_page(database, BatchSearch(), 1, statuses_of)
    assert [status.batch_id for status in first.batches] == ["z"]
    late = chunk(pairs("A", "M2"), batch_id="x", number=1)
    apply(database, late, datetime.now(UTC))
    rest = batch_page(database, BatchSearch(cursor=first.next), 5, statuses_of)
    assert [status.batch_id for status in rest.batches] == ["y", "x"]
    assert recent_batch_ids(database, 2) == ["z", "y"]


def test_a_dead_letter_that_is_retried_keeps_the_place_of_its_batch(
    database: Database, statuses_of: Callable[[list[str]], list[BatchStatus]]
) -> None:
    apply(database, chunk(batch_id="newer"))
    older = chunk(pairs("A", "M1"), batch_id="older")
    content = older.model_dump(mode="json")
    failed = (LetterReason.NOT_PROCESSED, "boom")
    keep(database, call_letter("enrollment.enroll_batch", "t", [content], {}, *failed))
    with database.writing() as connection:
        connection.execute(update(DeadLetter).values(moment=START))
    before = batch_page(database, BatchSearch(), 5, statuses_of)
    assert [(b.batch_id, b.state) for b in before.batches] == [
        ("newer", "done"),
        ("older", "stalled"),
    ]
    apply(database, older, START)
    with database.writing() as connection:
        (letter,) = find_dead_letters(connection)
        delete_dead_letter(connection, letter.id)
    after = batch_page(database, BatchSearch(), 5, statuses_of)
    assert [(b.batch_id, b.state, b.submitted_at) for b in after.batches] == [
        ("newer", "done", before.batches[0].submitted_at),
        ("older", "done", START),
    ]


def test_a_batch_that_was_pruned_while_a_page_was_read_is_left_out(database: Database) -> None:
    for batch_id in ("x", "y"):
        apply(database, chunk(batch_id=batch_id))

    def prune_first(ids: list[str]) -> list[BatchStatus]:
        with database.writing() as connection:
            connection.execute(delete(BatchChunk).where(BatchChunk.batch_id == "y"))
            connection.execute(delete(Batch).where(Batch.id == "y"))
        return batch_statuses(database, ids, {}, refusals=False)

    page = batch_page(database, BatchSearch(), 5, prune_first)
    assert [status.batch_id for status in page.batches] == ["x"]


def test_no_batch_is_examined_to_find_those_that_are_unknown(database: Database) -> None:
    apply(database, chunk())

    def refuse(ids: list[str]) -> list[BatchStatus]:
        raise AssertionError(ids)

    search = BatchSearch(state=BatchState.UNKNOWN)
    assert batch_page(database, search, 5, refuse) == BatchPage()


def test_a_batch_stalls_in_the_list_as_it_does_alone(
    database: Database, statuses_of: Callable[[list[str]], list[BatchStatus]]
) -> None:
    apply(database, chunk(last=False))
    for state in (BatchState.RUNNING, BatchState.STALLED):
        page = batch_page(database, BatchSearch(state=state), 5, statuses_of)
        assert [status.state for status in page.batches] == [state]
        long_ago = datetime.now(UTC) - timedelta(seconds=STALLED_SECONDS + 1)
        with database.writing() as connection:
            connection.execute(update(BatchChunk).values(applied_at=long_ago))
