"""Store derived results, so that a test can read all results from one table."""

from sqlalchemy import Connection, select

from worker.enrollment.derived.repository import take_derived_of_chunk
from worker.enrollment.repository import add_results
from worker.models import BatchChunk


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
