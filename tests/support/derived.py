"""Read all results from one table, those that are derived as if they were stored."""

from typing import Any

from sqlalchemy import Connection, select

from worker.database.engine import Database
from worker.enrollment.derived.repository import take_derived_of_chunk
from worker.enrollment.repository import add_results
from worker.models import BatchChunk, EnrollmentResult


def store_derived_results(connection: Connection) -> int:
    """Store the derived results of all chunks; return how many there were."""
    chunk = BatchChunk
    fresh = select(chunk.batch_id, chunk.number).where(chunk.fresh.is_not(None))
    count = 0
    for row in connection.execute(fresh).all():
        results = take_derived_of_chunk(connection, row.batch_id, row.number)
        add_results(connection, results)
        count += len(results)
    return count


def all_results(database: Database) -> list[Any]:
    """Return the rows of `enrollment_results` as if all results were stored."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        store_derived_results(connection)
        rows = connection.execute(select(*EnrollmentResult.__table__.columns)).all()
        transaction.rollback()
    return list(rows)
