"""Read and write the ledger of batches in SQL."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    bindparam,
    case,
    cast,
    func,
    insert,
    select,
    update,
)

from producer.contract.headers import BatchOrigin
from producer.fields import MAX_KEY
from worker.batches.counts import ROW_COUNTS
from worker.database.sets import (
    RowsUpTo,
    add_rows,
    columns_of,
    insert_into,
    insert_rows,
    is_among,
    list_parameter,
    row_parameters,
    rows_up_to,
    select_among,
    select_up_to,
)
from worker.models import Batch, BatchChunk, IdentityRow, Instant
from worker.plan_models import DataSet

_NEXT_NUMBER = cast(BatchChunk.number, BigInteger) + 1
"""The number after a chunk's own. It may be too large for the type of the column."""


def find_chunk(connection: Connection, batch_id: str, number: int) -> Any | None:
    """Return the fingerprint of a chunk and the kind of its batch; None if it was not applied."""
    return connection.execute(_CHUNK, {"batch": batch_id, "chunk": number}).one_or_none()


_CHUNK = (
    select(Batch.kind, BatchChunk.fingerprint)
    .join(BatchChunk, BatchChunk.batch_id == Batch.id)
    .where(Batch.id == bindparam("batch"), BatchChunk.number == bindparam("chunk"))
)


class OpenBatch(NamedTuple):
    """What all chunks of a batch have in common."""

    kind: str
    moment: datetime
    results_stored_until: datetime | None = None
    """Until when every result is stored, on the database's clock; None if there is no such time, or
    if it was not read."""
    data_set: int | None = None
    """The key of its data set; None if it has none."""
    is_stopped: bool = False
    """True if the batch was undone: its other requests are refused."""


def open_batch(
    connection: Connection,
    batch_id: str,
    kind: str,
    columns: Sequence[str] | None,
    form: Mapping[str, Any] | None,
    origin: BatchOrigin,
    data_set: int | None = None,
) -> OpenBatch:
    """Store a batch when its first chunk arrives; return what is stored of it.

    `origin` has the moment that counts if none is stored. A batch that an older version has opened
    gets that of its first chunk.
    """
    known = connection.execute(_OPEN, {"batch": batch_id}).one_or_none()
    if known is None:
        new = insert_into(connection.dialect.name, Batch).values(
            id=batch_id,
            kind=kind,
            columns=columns,
            form=form,
            data_set=data_set,
            **origin._asdict(),
        )
        connection.execute(new.on_conflict_do_nothing())
        known = connection.execute(_OPEN, {"batch": batch_id}).one()
    values = known._asdict()
    if known.moment is None:
        values["moment"] = date_batch(connection, batch_id, origin.moment)
    return OpenBatch(**values)


def date_batch(connection: Connection, batch_id: str, moment: datetime | None) -> datetime:
    """Give a batch that an older version has opened its moment; return that.

    It is that of its first chunk, or the given one if that is earlier.
    """
    connection.execute(_DATE, {"batch": batch_id, "moment": moment})
    dated: datetime = connection.execute(_OPEN, {"batch": batch_id}).one().moment
    return dated


_IS_STOPPED = Batch.stopped_at.is_not(None).label("is_stopped")
# So that undoing a batch waits for its chunks. A ledger entry takes this lock later in any case.
_LOCK: Mapping[str, Any] = {"read": True, "key_share": True, "of": Batch}
_UNTIL = select(IdentityRow.results_stored_until).scalar_subquery().label("results_stored_until")
_OPEN = select(Batch.kind, Batch.moment, _UNTIL, Batch.data_set, _IS_STOPPED)
_OPEN = _OPEN.where(Batch.id == bindparam("batch")).with_for_update(**_LOCK)
_GIVEN: Any = bindparam("moment", type_=Instant())
_FIRST = (
    select(func.min(BatchChunk.applied_at))
    .where(BatchChunk.batch_id == Batch.id, BatchChunk.applied_at < _GIVEN)
    .scalar_subquery()
)
_DATE = (
    update(Batch)
    .where(Batch.id == bindparam("batch"), Batch.moment.is_(None))
    .values(moment=func.coalesce(_FIRST, _GIVEN))
)


def open_batches(
    connection: Connection, batches: Sequence[Mapping[str, Any]]
) -> dict[str, OpenBatch]:
    """Store several batches without data sets of which chunks arrive together; return all.

    Each has the columns `id`, `kind`, `columns`, `form`, `file_name`, `submitter` and `moment`.
    They are stored in the order of their ids, so that two transactions cannot deadlock.
    """
    if not batches:
        return {}
    first = {batch["id"]: batch for batch in reversed(batches)}
    dialect = connection.dialect.name
    new = [tuple(map(_as_json, first[batch_id].values())) for batch_id in sorted(first)]
    parameters = row_parameters(dialect, columns_of(Batch, *_BATCH), new)
    connection.execute(_add_batches(dialect), parameters)
    opened = {}
    for row in connection.execute(_select_open(dialect), list_parameter(dialect, first)):
        moment = row.moment or date_batch(connection, row.id, first[row.id]["moment"])
        more = {"data_set": row.data_set, "is_stopped": row.is_stopped}
        opened[row.id] = OpenBatch(row.kind, moment, **more)
    return opened


_BATCH = ("id", "kind", "columns", "form", "file_name", "submitter", "moment")


def _as_json(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, tuple | dict) else value


@cache
def _add_batches(dialect: str) -> Any:
    return insert_rows(dialect, Batch, _BATCH).on_conflict_do_nothing()


@cache
def _select_open(dialect: str) -> Any:
    columns = (Batch.id, Batch.kind, Batch.moment, Batch.data_set, _IS_STOPPED)
    listed = select_among(dialect, *columns)
    return listed.order_by(Batch.id).with_for_update(**_LOCK)


def find_entries(
    connection: Connection, chunks: Collection[tuple[str, int]]
) -> dict[tuple[str, int], Any]:
    """Return the ledger entries of those of these chunks that were applied, by batch and number.

    Each has the kind of its batch and the fingerprint.
    """
    dialect = connection.dialect.name
    batch_ids = {batch_id for batch_id, _ in chunks}
    numbers = {number for _, number in chunks}
    parameters = list_parameter(dialect, batch_ids) | list_parameter(dialect, numbers, "numbers")
    rows = connection.execute(_select_entries(dialect), parameters)
    # Batches may have some of the numbers of others, too.
    entries = {(row.batch_id, row.number): row for row in rows}
    return {key: entries[key] for key in chunks if key in entries}


@cache
def _select_entries(dialect: str) -> Any:
    chunk = BatchChunk
    # Not a join: its plan would be made for the size that the ledger has now.
    kind = select(Batch.kind).where(Batch.id == chunk.batch_id).scalar_subquery().label("kind")
    wanted = (is_among(dialect, chunk.batch_id), is_among(dialect, chunk.number, "numbers"))
    return select(chunk.batch_id, chunk.number, kind, chunk.fingerprint).where(*wanted)


def add_chunk(connection: Connection, **entry: Any) -> None:
    """Enter an applied chunk. Raises IntegrityError if it was entered already."""
    connection.execute(_ADD_CHUNK, entry)


def add_chunks(connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Enter chunks that were applied together. Raises IntegrityError, as `add_chunk` does."""
    if connection.dialect.name != "postgresql":
        connection.execute(_ADD_CHUNK, entries)
        return
    names = tuple(entries[0])
    rows = [tuple(map(_as_text, entry.values())) for entry in entries]
    add_rows(connection, BatchChunk, names, rows)


def _as_text(value: Any) -> Any:
    """Return bytes in the form in which PostgreSQL reads them as text, and other values as such."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value


_ADD_CHUNK = insert(BatchChunk)


def has_ended_before(connection: Connection, batch_id: str, number: int) -> bool:
    """Return whether the last chunk of a batch was applied, and has a smaller number than this."""
    return bool(connection.scalar(_ENDED_BEFORE, {"batch": batch_id, "chunk": number}))


# No chunk after the last one is applied, so only the nearest smaller number is looked at.
_ENDED_BEFORE = (
    select(BatchChunk.last)
    .where(BatchChunk.batch_id == bindparam("batch"), BatchChunk.number < bindparam("chunk"))
    .order_by(BatchChunk.number.desc())
    .limit(1)
)


def find_chunks(connection: Connection, batch_id: str, numbers: Iterable[int]) -> dict[int, Any]:
    """Return the fingerprints of those chunks of a batch that were applied, by number."""
    dialect = connection.dialect.name
    statement = select(BatchChunk.number, BatchChunk.fingerprint).where(
        BatchChunk.batch_id == batch_id, is_among(dialect, BatchChunk.number)
    )
    # No chunk can have a larger number, and the column's type could not even be compared with it.
    possible = {number for number in numbers if number <= MAX_KEY}
    rows = connection.execute(statement, list_parameter(dialect, possible))
    return {row.number: row.fingerprint for row in rows}


def find_kind(connection: Connection, batch_id: str) -> str | None:
    """Return the kind of a batch; None if none of its chunks was applied."""
    kind: str | None = connection.scalar(_KIND, {"batch": batch_id})
    return kind


_KIND = select(Batch.kind).where(Batch.id == bindparam("batch"))


def find_columns(connection: Connection, batch_ids: Iterable[str], most: int) -> RowsUpTo:
    """Return the ids of batches, each with the column names and the form of its file.

    The list ends once these names have `most` characters.
    """
    dialect = connection.dialect.name
    parameters = list_parameter(dialect, set(batch_ids))
    return rows_up_to(connection, _select_columns(dialect), parameters, most)


@cache
def _select_columns(dialect: str) -> Any:
    page = select_among(dialect, Batch.id, Batch.columns, Batch.form).subquery()
    return select_up_to(page, ["columns"], page.c.id)


def find_origins(connection: Connection, batch_ids: Iterable[str]) -> dict[str, BatchOrigin]:
    """Return where batches came from, by batch."""
    dialect = connection.dialect.name
    statement = select(Batch.id, Batch.file_name, Batch.submitter)
    rows = connection.execute(
        statement.where(is_among(dialect, Batch.id)), list_parameter(dialect, set(batch_ids))
    )
    return {row.id: BatchOrigin(row.file_name, row.submitter) for row in rows}


def sum_chunks(connection: Connection, batch_ids: Iterable[str]) -> list[Any]:
    """Return the ledger of each known batch, summed over its applied chunks, in one statement."""
    dialect = connection.dialect.name
    return list(connection.execute(_sum_chunks(dialect), list_parameter(dialect, set(batch_ids))))


@cache
def _sum_chunks(dialect: str) -> Any:
    chunk = BatchChunk
    sums = ("requests", "requests_rejected", "rows", *ROW_COUNTS)
    of_batch = DataSet.id == Batch.data_set
    name_of_data_set = select(DataSet.name).where(of_batch).correlate(Batch).scalar_subquery()
    return (
        select(
            Batch.id,
            Batch.kind,
            Batch.file_name,
            Batch.submitter,
            Batch.stopped_at,
            name_of_data_set.label("data_set_name"),
            func.coalesce(Batch.moment, func.min(chunk.applied_at)).label("submitted_at"),
            func.count().label("applied"),
            func.max(_NEXT_NUMBER).label("known"),
            *(func.sum(getattr(chunk, name)).label(name) for name in sums),
            func.max(chunk.requests_through).label("requests_through"),
            func.max(chunk.rows_through).label("rows_through"),
            func.max(chunk.rows_through - chunk.rows).label("rows_before"),
            func.max(case((chunk.last, _NEXT_NUMBER))).label("chunks"),
            func.min(chunk.applied_at).label("started_at"),
            func.max(chunk.applied_at).label("finished_at"),
        )
        .join(chunk, chunk.batch_id == Batch.id)
        .where(is_among(dialect, Batch.id))
        # The other columns of a batch depend on its primary key.
        .group_by(Batch.id)
    )
