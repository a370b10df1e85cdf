"""Read and write dead letters in SQL."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, delete, func, select

from worker.database.clock import database_time
from worker.database.sets import insert_into, is_among, list_parameter
from worker.models import DeadLetter, LetterForm, LetterReason


def add_dead_letters(connection: Connection, letters: Iterable[Mapping[str, Any]]) -> None:
    """Store dead letters; one that is already stored counts another delivery, and the later moment.

    The times are those of the database's clock, if it has one.
    """
    letter, rows = DeadLetter, list(letters)
    now = database_time(connection) if rows else None
    times = {} if now is None else {"first_at": now, "last_at": now}
    for values in rows:
        new = insert_into(connection.dialect.name, letter).values(**{**values, **times})
        is_later = new.excluded.moment > func.coalesce(letter.moment, letter.first_at)
        connection.execute(
            new.on_conflict_do_update(
                index_elements=["fingerprint"],
                set_={
                    "deliveries": letter.deliveries + 1,
                    "last_at": new.excluded.last_at,
                    "detail": new.excluded.detail,
                    "moment": case((is_later, new.excluded.moment), else_=letter.moment),
                },
            )
        )


def find_dead_letters(
    connection: Connection, *, after: int = 0, limit: int = 1000, only: int | None = None
) -> list[Any]:
    """Return dead letters in the order of their ids: those after an id, or only one."""
    condition = DeadLetter.id > after if only is None else DeadLetter.id == only
    statement = select(*DeadLetter.__table__.columns).where(condition)
    return list(connection.execute(statement.order_by(DeadLetter.id).limit(limit)))


def list_dead_letters(
    connection: Connection, *, after: int = 0, through: int | None = None, limit: int = 1000
) -> list[Any]:
    """Return dead letters after an id, in order, with the size of the content in its place."""
    statement = _SUMMARIES.where(DeadLetter.id > after)
    if through is not None:
        statement = statement.where(DeadLetter.id <= through)
    return list(connection.execute(statement.order_by(DeadLetter.id).limit(limit)))


def summarize_dead_letters(connection: Connection, letter_ids: Collection[int]) -> list[Any]:
    """Return those of these dead letters that exist, in the form of `list_dead_letters`."""
    dialect = connection.dialect.name
    statement = _SUMMARIES.where(is_among(dialect, DeadLetter.id)).order_by(DeadLetter.id)
    return list(connection.execute(statement, list_parameter(dialect, set(letter_ids))))


_SUMMARIES = select(
    *(column for column in DeadLetter.__table__.columns if column.name != "content"),
    func.length(DeadLetter.content).label("size"),
)


def newest_dead_letter(connection: Connection) -> int:
    """Return the id of the newest dead letter; 0 if there are none."""
    return connection.scalar(select(func.max(DeadLetter.id))) or 0


def count_all_dead_letters(connection: Connection) -> int:
    """Return how many dead letters are stored."""
    return connection.scalar(select(func.count()).select_from(DeadLetter)) or 0


def count_dead_chunks(
    connection: Connection, batch_ids: Iterable[str]
) -> dict[str, tuple[int, str, int, datetime | None]]:
    """Count the dead letters that are whole chunks, by batch.

    The values are those of `DeadChunks`: how many failed, the detail of one, how many conflicts,
    and when the newest failed.
    """
    dialect = connection.dialect.name
    is_conflict = DeadLetter.reason == LetterReason.CONFLICT
    statement = (
        select(
            DeadLetter.batch_id,
            func.sum(case((is_conflict, 0), else_=1)),
            func.max(case((is_conflict, ""), else_=DeadLetter.detail)),
            func.sum(case((is_conflict, 1), else_=0)),
            func.max(case((is_conflict, None), else_=DeadLetter.last_at)),
        )
        .where(is_among(dialect, DeadLetter.batch_id), DeadLetter.form != LetterForm.RECORD)
        .group_by(DeadLetter.batch_id)
    )
    rows = connection.execute(statement, list_parameter(dialect, set(batch_ids)))
    return {str(batch_id): (*counts,) for batch_id, *counts in rows}


def delete_dead_letter(connection: Connection, letter_id: int) -> bool:
    """Remove a dead letter; return whether it existed."""
    return bool(connection.execute(delete(DeadLetter).where(DeadLetter.id == letter_id)).rowcount)
