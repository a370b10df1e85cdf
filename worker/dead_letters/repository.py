"""Read and write dead letters in SQL."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, select

from worker.database.sets import insert_into, is_among, list_parameter
from worker.models import DeadLetter, LetterForm


def add_dead_letters(connection: Connection, letters: Iterable[Mapping[str, Any]]) -> None:
    """Keep dead letters; one that is there already is counted."""
    letter = DeadLetter
    for values in letters:
        new = insert_into(connection.dialect.name, letter).values(**values)
        connection.execute(
            new.on_conflict_do_update(
                index_elements=["fingerprint"],
                set_={
                    "deliveries": letter.deliveries + 1,
                    "last_at": new.excluded.last_at,
                    "detail": new.excluded.detail,
                },
            )
        )


def find_dead_letters(
    connection: Connection, *, after: int = 0, limit: int = 1000, only: int | None = None
) -> list[Any]:
    """Dead letters by id, those behind an id, or only one."""
    chosen = DeadLetter.id > after if only is None else DeadLetter.id == only
    statement = select(*DeadLetter.__table__.columns).where(chosen)
    return list(connection.execute(statement.order_by(DeadLetter.id).limit(limit)))


def list_dead_letters(
    connection: Connection, *, after: int = 0, through: int | None = None, limit: int = 1000
) -> list[Any]:
    """Dead letters by id, those behind an id, with the size of their content instead of it."""
    columns = [c for c in DeadLetter.__table__.columns if c.name != "content"]
    size = func.length(DeadLetter.content).label("size")
    statement = select(*columns, size).where(DeadLetter.id > after)
    if through is not None:
        statement = statement.where(DeadLetter.id <= through)
    return list(connection.execute(statement.order_by(DeadLetter.id).limit(limit)))


def newest_dead_letter(connection: Connection) -> int:
    """The id of the dead letter that was added last; 0 if there is none."""
    return connection.scalar(select(func.max(DeadLetter.id))) or 0


def count_all_dead_letters(connection: Connection) -> int:
    """How many are kept."""
    return connection.scalar(select(func.count()).select_from(DeadLetter)) or 0


def count_dead_chunks(
    connection: Connection, batch_ids: Iterable[str]
) -> dict[str, tuple[int, str]]:
    """How many dead letters are whole chunks, by batch, and what happened to one of them."""
    dialect = connection.dialect.name
    statement = (
        select(DeadLetter.batch_id, func.count(), func.max(DeadLetter.detail))
        .where(is_among(dialect, DeadLetter.batch_id), DeadLetter.form != LetterForm.RECORD)
        .group_by(DeadLetter.batch_id)
    )
    rows = connection.execute(statement, list_parameter(dialect, set(batch_ids)))
    return {str(batch_id): (count, detail) for batch_id, count, detail in rows}


def delete_dead_letter(connection: Connection, letter_id: int) -> bool:
    """Remove a dead letter; returns whether it was there."""
    return bool(connection.execute(delete(DeadLetter).where(DeadLetter.id == letter_id)).rowcount)
