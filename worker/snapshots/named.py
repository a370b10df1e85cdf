"""Collect the enrollments that the chunks of a snapshot name, while its plan is made."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from worker.models import Course, Pair, Student
from worker.repository import find_keys
from worker.snapshots.recognizing import ids_of, recognize, wanted_by
from worker.snapshots.repository import add_named, create_tables


def create_named_pairs(connection: Connection) -> None:
    """Create the temporary tables of a snapshot, on the connection on which it is planned.

    Raises DBAPIError.
    """
    create_tables(connection)


def add_named_pairs(
    connection: Connection,
    chunk: Chunk,
    known: Collection[Pair] = (),
    others: Sequence[int] | None = None,
) -> None:
    """Add every enrollment that a chunk names, those of its refused lines apart.

    `known` are those that were found already, and `others` the positions of the requests that name
    the rest, if any were. The students and courses are those that the plan sees: the chunk must
    have been applied on this connection, or what these requests name must have been copied. Raises
    DBAPIError.
    """
    wanted = wanted_by(chunk, others)
    students, courses = ids_of(wanted)
    named = recognize(
        wanted,
        find_keys(connection, Student, students),
        find_keys(connection, Course, courses),
    )
    add_named(connection, {*named.pairs, *known} if named.pairs else known, named.doubts)
