"""Find the enrollments that a snapshot does not name, and plan what becomes of them."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from producer.contract.plans import AbsentRows
from worker.database.planning import real_table
from worker.intervals.repository import find_confirmations
from worker.models import EnrollmentResult, Pair
from worker.snapshots.repository import (
    add_named,
    count_compared,
    count_doubts,
    count_fates,
    count_named,
    count_owned,
    count_owners,
    find_absent,
    find_losses,
    keep_confirmed,
    prepare_to_compare,
    students_in_doubt,
    take_grown_students,
)
from worker.snapshots.values import Absence

_STUDENTS: Final = 5_000
"""Students whose results are read at a time."""


def plan_absence(
    connection: Connection,
    data_set: int,
    moment: datetime,
    ahead: timedelta = timedelta(0),
    pairs_of: Callable[[Collection[int]], Iterable[Pair]] = lambda _: (),
) -> Absence:
    """Plan what becomes of enrollments that a data set owns and that its snapshot does not name.

    All chunks of the snapshot were given to `worker.snapshots.named.add_named_pairs` before, on
    this connection. `moment` is that of the snapshot, and `ahead` how far the clock of the moments
    is ahead of the database's. `pairs_of` returns what the chunks name of students of whom they
    were said to name all. What is planned for single enrollments stays in a temporary table
    (`worker.snapshots.repository.planned_rows`). Raises DBAPIError.
    """
    prepare_to_compare(connection)
    owned = count_owned(connection, data_set)
    find_absent(connection, data_set, moment)
    if count_compared(connection, data_set) != sum(owned.values()):
        # Since a chunk was stored, other requests of the data set have enrolled its students.
        grown = take_grown_students(connection, data_set)
        add_named(connection, set(pairs_of(grown)), {})
        find_absent(connection, data_set, moment)
    _keep_confirmed(connection, moment, ahead)
    counts = count_fates(connection)
    not_owned, others = count_owners(connection, data_set)
    return Absence(
        owned_before=sum(owned.values()),
        absent=AbsentRows(absent=sum(counts.values()), **counts),
        losses=tuple(find_losses(connection, owned)),
        # Counting them takes long, and nothing depends on it if the data set owns all that exist.
        named=count_named(connection, data_set) if not_owned or others else 0,
        not_owned=not_owned,
        others=tuple(others),
        doubts=count_doubts(connection),
    )


def _keep_confirmed(connection: Connection, moment: datetime, ahead: timedelta) -> None:
    """Keep enrollments that a request of the same or a later moment confirmed."""
    results = real_table(connection, EnrollmentResult)
    students = students_in_doubt(connection, 0, _STUDENTS)
    while students:
        confirmed = find_confirmations(connection, students, moment, ahead, results)
        keep_confirmed(connection, confirmed)
        students = students_in_doubt(connection, students[-1], _STUDENTS)
