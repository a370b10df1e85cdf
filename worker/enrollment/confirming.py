"""Find the requests of a planned chunk that change nothing: most of a file repeats the last one."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.schemas import Action
from worker.data_sets.repository import find_new_and_foreign
from worker.data_sets.values import Owner
from worker.database.planning import real_tables
from worker.enrollment.clean_requests import CleanRequests
from worker.enrollment.shortcuts import (
    FoundRequests,
    ShortcutResult,
    counts_too_early,
    find_clean_requests,
    is_contradicted,
)
from worker.enrollment.values import Times
from worker.intervals.repository import find_newer_drops
from worker.intervals.values import NewerDrops
from worker.models import Pair
from worker.repository import are_some_enrolled, find_missing


class WholeStudents(NamedTuple):
    """Students of whom requests name exactly what a data set owns, as two columns."""

    students: Sequence[int] = ()
    """Their keys."""
    counts: Sequence[int] = ()
    """How many enrollments that is."""


class ConfirmingRequests(NamedTuple):
    """The requests of a chunk of which every course is enrolled, by the same data set if any."""

    result: ShortcutResult
    """What the shortcut for clean requests makes of them; the others are its rest."""
    drops: NewerDrops
    """The drops that count later; they are about other requests."""
    whole: WholeStudents = WholeStudents()
    """Students whose pairs are not among those of the result."""


class LookUp(NamedTuple):
    """What was found in the real tables for a chunk that counts at a moment, for a data set."""

    moment: datetime
    data_set: int | None
    confirming: ConfirmingRequests | None
    """None if there may be no such requests."""


def look_up(connection: Connection, chunk: Chunk, times: Times, data_set: int | None) -> LookUp:
    """Look for requests of a chunk that only confirm enrollments, perhaps of a data set.

    Nothing but the real tables is read, so any connection with the snapshot of the plan will do.
    Call this for a plan that drops nothing by its requests. Raises DBAPIError.
    """
    nothing = LookUp(times.batch, data_set, None)
    with real_tables(connection):
        found = find_clean_requests(connection, chunk, (), times)
        if found.action is not Action.ENROLL or not found.requests:
            return nothing
        if not are_some_enrolled(connection, found.requests.listed_pairs):
            return nothing
        drops = find_newer_drops(connection, times.batch)
        if is_contradicted(connection, found, drops, times):
            return nothing
        changing = _changing(connection, found.requests, data_set)
    return nothing._replace(confirming=_divide(found, changing, drops))


def find_confirming(
    connection: Connection,
    chunk: Chunk,
    times: Times,
    owner: Owner | None,
    ahead: LookUp | None = None,
) -> ConfirmingRequests | None:
    """Find the requests of a chunk that only confirm enrollments; None if it may have none.

    They are compared with the real tables, so nothing of them needs to be copied. Call this on the
    connection of a plan that drops nothing by its requests: then nothing that was planned before
    can have changed the enrollments that are found. `ahead` is what was looked up before; it is
    used if it was looked up for the same moment and data set. Raises DBAPIError.
    """
    data_set = None if owner is None else owner.data_set
    if ahead is None or (ahead.moment, ahead.data_set) != (times.batch, data_set):
        ahead = look_up(connection, chunk, times, data_set)
    found = ahead.confirming
    # When the data set was swept is planned, too.
    if found is None or counts_too_early(connection, found.drops, times.batch, owner):
        return None
    return found


def _changing(connection: Connection, requests: CleanRequests, data_set: int | None) -> set[Pair]:
    """Return the pairs that are not enrolled, or that the data set of the chunk does not own."""
    if data_set is None:
        return set(find_missing(connection, requests.listed_pairs))
    new, foreign = find_new_and_foreign(connection, requests.pairs, data_set)
    return new.union(foreign)


def _divide(
    found: FoundRequests, changing: set[Pair], drops: NewerDrops
) -> ConfirmingRequests | None:
    """Return the requests that change nothing, unless they are too few to be worth it."""
    confirming, others = found.requests.divide(changing)
    rest = sorted([*found.rest, *others])
    if len(rest) > len(confirming) * MOST_OTHERS:
        return None
    rows = len(confirming.courses)
    pairs = confirming.listed_pairs
    result = ShortcutResult(Action.ENROLL, len(confirming), rows, 0, rest, pairs=pairs)
    return ConfirmingRequests(result, drops)


MOST_OTHERS = 0.5
"""If there are more other requests for each that only confirms, all are decided together: the
rulebook takes several times as long for a request as the shortcut."""
