"""Open the batch of a chunk, and decide which data set owns the enrollments that it opens."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.contract.headers import BatchOrigin
from producer.schemas import Kind
from worker.batches.repository import OpenBatch, find_kind, open_batch
from worker.data_sets.repository import MAX_NAMED, data_set_key, find_data_set
from worker.data_sets.values import Owner
from worker.moments import own_clock


def data_set_of(connection: Connection, chunk: Chunk, now: datetime) -> int | None:
    """Return the key of the data set that a chunk names; None if it names none.

    A new one is made, unless the chunk's batch is known already: it then has another one, or none,
    and None is returned. Raises TooManyDataSets.
    """
    if chunk.data_set is None:
        return None
    known = find_data_set(connection, chunk.data_set)
    if known is not None:
        return int(known.id)
    if find_kind(connection, chunk.batch_id) is not None:
        return None
    return data_set_key(connection, chunk.data_set, now, most=MAX_NAMED)


def names_another(chunk: Chunk, batch: OpenBatch, data_set: int | None) -> bool:
    """Return whether the data set that a chunk names, which has this key, is not its batch's."""
    return batch.data_set != data_set or (data_set is None and chunk.data_set is not None)


def owner_of(chunk: Chunk, batch: OpenBatch) -> Owner | None:
    """Return what owns the enrollments that a chunk of a batch opens; None without a data set."""
    if batch.data_set is None:
        return None
    plan = chunk.plan
    return Owner(batch.data_set, plan.id if plan is not None and plan.adopt else None)


def open_chunk(
    connection: Connection, kind: Kind, chunk: Chunk, origin: BatchOrigin
) -> tuple[OpenBatch, bool]:
    """Open the batch of a chunk; return it, and whether the chunk is of another submission.

    `origin` has the moment that counts if none is stored.
    """
    data_set = data_set_of(connection, chunk, origin.moment or own_clock())
    form = form_of(chunk)
    batch = open_batch(connection, chunk.batch_id, kind, chunk.columns, form, origin, data_set)
    return batch, batch.kind != kind or names_another(chunk, batch, data_set)


_ADDED_TO_FORM = ("drop", "sections_are_one", "moments_from_file")
"""Fields of a form that earlier versions lack; they are stored only where they are set."""


def form_of(chunk: Chunk) -> dict[str, Any] | None:
    """Return the form of a chunk's file as it is stored, without what older workers do not know."""
    if chunk.form is None:
        return None
    left_out = {name for name in _ADDED_TO_FORM if not getattr(chunk.form, name)}
    return chunk.form.model_dump(mode="json", exclude_none=True, exclude=left_out)
