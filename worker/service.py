"""Decide requests: load, decide, write. Knows the rules, but not Celery."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from producer.schemas import Action, StudentEnrollmentRequest, StudentEnrollmentResponse
from worker.data_sets.repository import confirm_owner, find_swept, remove_older_notes
from worker.data_sets.values import Owner
from worker.database.engine import Database, nothing, transaction
from worker.database.enrollment_lock import lock_enrollments
from worker.database.last_write import LastWrite
from worker.enrollment.incoming import IncomingRequest, may_drop
from worker.enrollment.loading.repository import Documents, early_lookup, load_for_requests
from worker.enrollment.repository import add_result_last, add_results
from worker.enrollment.results import to_response
from worker.enrollment.rules import (
    Changed,
    CheckedRequest,
    Decision,
    Decisions,
    Plan,
    check,
    conclude,
    earliest_drop,
    pairs_to_examine,
    plan,
)
from worker.enrollment.values import RequestLookup, StoredResult
from worker.intervals.repository import add_intervals, end_enrollments, find_states, keep_drops
from worker.intervals.values import PairState
from worker.models import Pair
from worker.moments import Clock, own_clock, read_clock, settle
from worker.repository import insert_enrollments


class Overlap(NamedTuple):
    """What the caller of `add_enrollments` does while PostgreSQL works, instead of waiting.

    Both may be called again if the transaction is run again after a conflict.
    """

    while_locking: Callable[[], object] = nothing
    """Called before anything depends on what is in the requests. What it raises is raised.

    On SQLite it is called before the transaction: other writers would wait for it as well.
    """
    while_committing: Callable[[Decisions], object] = nothing
    """Called with decisions that may still fail to be committed."""


def add_enrollment(
    database: Database, request: StudentEnrollmentRequest, request_id: str
) -> StudentEnrollmentResponse:
    """Enroll one student in courses and drop others, or refuse the request with reasons.

    The student and every course must exist. For each course, the latest request wins. If the
    request id was used before, the first result is returned, or `request_id_reused` if the first
    request asked for something else.
    Raises DBAPIError.
    """
    incoming = IncomingRequest(request_id, request.model_dump(mode="json"), request)
    decisions = add_enrollments(database, [incoming])
    return to_response(decisions.decided[0].result, decisions.courses, decisions.sis_ids)


def add_enrollments(
    database: Database | Connection,
    requests: Sequence[IncomingRequest],
    batch_id: str | None = None,
    *,
    clock: Clock = own_clock,
    overlap: Overlap = Overlap(),  # noqa: B008 - immutable
) -> Decisions:
    """Decide requests by their moments, write their rows and store their results.

    All requests run through here, alone or in a group, on the first attempt or a later one, except
    the clean requests of a chunk (`worker.enrollment.shortcuts`). The work is one transaction, or
    part of the open transaction if a connection is given. A request without a moment counts at the
    time on the clock. Raises DBAPIError.
    """

    def decide(connection: Connection) -> Decisions:
        early = _lock(connection, requests, overlap, begins=connection is not database)
        reading = read_clock(clock)
        now, settled = reading.now, settle(requests, reading)
        stored = load_for_requests(connection, settled, early)
        data_sets = {incoming.owner.data_set for incoming in settled if incoming.owner}
        if data_sets:
            stored = stored._replace(swept=find_swept(connection, data_sets))
        checked = check(settled, stored)
        states = _examine(connection, checked, stored, now)
        planned = plan(checked, stored, states)
        decided = conclude(planned, _write(connection, planned), batch_id, stored.now or now)
        if stored.drops is not None and stored.drops.has_notes:
            remove_older_notes(connection, _dropped_pairs(planned))
        if data_sets:
            _confirm_owners(connection, decided, stored.swept)
        return Decisions(decided, stored.summaries, stored.sis_ids)

    if isinstance(database, Database) and database.engine.dialect.name == "sqlite":
        overlap.while_locking()
        overlap = overlap._replace(while_locking=nothing)
    return transaction(database, decide, _STORE, overlap.while_committing)


def _lock(
    connection: Connection, requests: Sequence[IncomingRequest], overlap: Overlap, *, begins: bool
) -> Documents | None:
    """Take the lock on enrollments; return what was looked up with it, if anything was.

    `begins` says whether the transaction begins with it: then a look-up can be sent along.
    """
    exclusive = any(map(may_drop, requests))
    lookup = early_lookup(connection, requests) if begins and not exclusive else None
    query = None if lookup is None else lookup.query
    row = lock_enrollments(
        connection, exclusive=exclusive, meanwhile=overlap.while_locking, query=query
    )
    return None if lookup is None else lookup.documents(row)


def _new_results(decisions: Decisions) -> list[StoredResult]:
    return [decision.result for decision in decisions.decided if decision.is_new]


_STORE = LastWrite[Decisions](
    statement=lambda connection, decisions: add_result_last(connection, _new_results(decisions)),
    write=lambda connection, decisions: add_results(connection, _new_results(decisions)),
)


def _examine(
    connection: Connection,
    checked: Sequence[CheckedRequest],
    stored: RequestLookup,
    now: datetime,
) -> Mapping[Pair, PairState]:
    if stored.drops is None:
        return {}
    pairs = pairs_to_examine(checked, stored.drops, stored.swept)
    return find_states(connection, pairs, earliest_drop(checked), now - (stored.now or now))


def _write(connection: Connection, planned: Plan) -> Changed:
    """Write what is planned. Enrollments end before others of the same pairs begin."""
    ended = end_enrollments(connection, planned.endings)
    add_intervals(connection, planned.passed)
    keep_drops(connection, planned.notes)
    return Changed(set(insert_enrollments(connection, planned.rows, planned.owners)), ended)


def _dropped_pairs(planned: Plan) -> dict[Pair, datetime]:
    """Return the pairs that requests ask to drop, each with the latest moment of such a request."""
    dropped: dict[Pair, datetime] = {}
    for position in planned.verdicts:
        request = planned.checked[position]
        for pair in request.pairs(Action.DROP):
            dropped[pair] = max(request.moment, dropped.get(pair, request.moment))
    return dropped


def _confirm_owners(
    connection: Connection, decided: Sequence[Decision], swept: Mapping[int, datetime]
) -> None:
    """Note which enrollments of others these requests name, too, or let their data set own them."""
    confirmed: dict[Owner, dict[Pair, datetime]] = {}
    for incoming, result, is_new, _ in decided:
        owner, student, moment = incoming.owner, result.student_id, result.moment
        if owner is None or student is None or moment is None or not is_new:
            continue
        pairs = confirmed.setdefault(owner, {})
        for course in result.already_enrolled_ids:
            pair = (student, course)
            pairs[pair] = max(moment, pairs.get(pair, moment))
    for owner, pairs in confirmed.items():
        confirm_owner(connection, owner, pairs, swept.get(owner.data_set))
