"""Drop the enrollments that a snapshot does not name, once its chunks were applied, page by page.

Each is dropped by the ordinary rulebook, at the moment of the snapshot. What became of it is stored
in the same transaction: a page that fails is done again, and none is done twice.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import line_request_id
from producer.contract.plans import AbsentRows
from producer.fields import MAX_COURSES
from producer.schemas import StudentEnrollmentRequest
from worker.data_sets.repository import remove_notes_before
from worker.database.clock import database_time
from worker.database.engine import Database, transaction
from worker.database.enrollment_lock import lock_enrollments
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.rules import Decision
from worker.intervals.repository import find_states
from worker.models import Pair
from worker.moments import Clock, own_clock
from worker.service import add_enrollments
from worker.snapshots.swept.repository import (
    count_outcomes,
    find_heirs,
    find_owners,
    next_planned,
    pass_on,
    set_outcomes,
)
from worker.snapshots.values import Fate

PAGE: Final = 1_000
"""How many enrollments are dropped while no other transaction may enroll."""


class Sweep(NamedTuple):
    """A snapshot whose chunks were all applied."""

    plan_id: str
    batch_id: str
    """The batch of its enrollments, to which the drops belong."""
    chunks: int
    """The number of that batch's chunks: the ids of the drops follow those of its lines."""
    data_set: int
    name: str
    """The name of the data set."""
    moment: datetime


def sweep_page(
    database: Database | Connection, sweep: Sweep, *, clock: Clock = own_clock, page: int = PAGE
) -> int:
    """Drop or pass on the next planned enrollments of a snapshot; return how many were looked at.

    It does so in one transaction, or within the open one of a connection. Nothing is left to do
    once 0 is returned; notes that the snapshot has outdated are then removed, too. Raises
    DBAPIError, EnrollmentsBusy.
    """
    return transaction(database, partial(_sweep, sweep=sweep, clock=clock, page=page))


def _sweep(connection: Connection, sweep: Sweep, clock: Clock, page: int) -> int:
    lock_enrollments(connection, exclusive=True)
    planned = next_planned(connection, sweep.plan_id, page)
    if not planned:
        remove_notes_before(connection, sweep.data_set, sweep.moment)
        return 0
    now = clock()
    outcomes = _kept(connection, sweep, planned, now)
    to_drop = [pair for pair in planned if pair not in outcomes]
    requests = list(_requests(sweep, to_drop))
    decided = add_enrollments(connection, requests, sweep.batch_id, clock=lambda: now).decided
    outcomes |= _outcomes(to_drop, decided)
    set_outcomes(connection, sweep.plan_id, outcomes)
    return len(planned)


def _kept(
    connection: Connection, sweep: Sweep, planned: Mapping[Pair, Fate], now: datetime
) -> dict[Pair, Fate]:
    """Return what becomes of planned drops that are no drops any more, and pass enrollments on."""
    owners = find_owners(connection, planned)
    outcomes = {pair: Fate.NOT_ENROLLED for pair in planned if pair not in owners}
    for pair, owner in owners.items():
        if owner is None:
            outcomes[pair] = Fate.KEPT_NEWER
        elif owner != sweep.data_set:
            outcomes[pair] = Fate.PASSED_ON
    own = [pair for pair in planned if pair not in outcomes]
    ahead = now - (database_time(connection) or now)
    states = find_states(connection, own, sweep.moment, ahead)
    for pair, state in states.items():
        if state.confirmed_at is not None and state.confirmed_at >= sweep.moment:
            outcomes[pair] = Fate.KEPT_NEWER
    heirs = _heirs(connection, sweep, (pair for pair in own if pair not in outcomes))
    pass_on(connection, heirs)
    outcomes |= dict.fromkeys(heirs, Fate.PASSED_ON)
    # A plan never does more than was shown: what was to be passed on is not dropped instead.
    expected = (pair for pair, fate in planned.items() if fate is Fate.PASSED_ON)
    return {**dict.fromkeys(expected, Fate.KEPT_NEWER), **outcomes}


def _heirs(connection: Connection, sweep: Sweep, pairs: Iterable[Pair]) -> dict[Pair, int]:
    wanted = list(pairs)
    return find_heirs(connection, wanted, sweep.data_set) if wanted else {}


def _requests(sweep: Sweep, pairs: Collection[Pair]) -> Iterator[IncomingRequest]:
    """Yield a request for each student, or several for one with very many courses."""
    courses_of: dict[int, list[int]] = defaultdict(list)
    for student, course in pairs:
        courses_of[student].append(course)
    for student, courses in courses_of.items():
        rest = iter(courses)
        while dropped := tuple(islice(rest, MAX_COURSES)):
            yield _request(sweep, student, dropped)


def _request(sweep: Sweep, student: int, courses: Sequence[int]) -> IncomingRequest:
    request = StudentEnrollmentRequest(
        student_id=student,
        course_ids=(),
        drop_course_ids=tuple(courses),
        atomic=False,
        reason=f"not in the snapshot of {sweep.name}",
    )
    # No line of the batch has such an id: the numbers of its chunks are smaller. The drop of a pair
    # has the same id whenever it is tried.
    request_id = line_request_id(sweep.batch_id, sweep.chunks + student, courses[0])
    return IncomingRequest(
        request_id,
        request.model_dump(mode="json", exclude_defaults=True),
        request,
        has_own_id=False,
        moment=sweep.moment,
        is_dated=True,
        batch_id=sweep.batch_id,
    )


def _outcomes(pairs: Collection[Pair], decided: Iterable[Decision]) -> dict[Pair, Fate]:
    """Return what became of drops; one that was refused or superseded leaves its enrollment."""
    outcomes = dict.fromkeys(pairs, Fate.KEPT_NEWER)
    for decision in decided:
        result = decision.result
        if result.student_id is None:
            continue
        for course in result.dropped_ids:
            was_enrolled = course not in result.not_enrolled_ids
            fate = Fate.DROPPED if was_enrolled else Fate.NOT_ENROLLED
            outcomes[result.student_id, course] = fate
    return outcomes


def swept_rows(connection: Connection, plan_id: str, planned: AbsentRows) -> AbsentRows:
    """Return what became of the enrollments that a snapshot does not name.

    `planned` is what its plan says of them: those that it keeps were not tried.
    """
    counts = planned.model_dump()
    counts.update({fate.value: 0 for fate in (Fate.DROPPED, Fate.PASSED_ON)})
    for (_, outcome), count in count_outcomes(connection, plan_id).items():
        counts[outcome] += count
    return AbsentRows(**counts)
