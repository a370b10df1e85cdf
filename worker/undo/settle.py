"""Undo a batch after others were undone: what is enrolled follows from the batches that count.

Then it is not enough to reverse what the batch changed. It may have ended what another batch opened
that was undone since, or have named a pair that the undo of another one left alone for that.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from producer.schemas import Action
from worker.intervals.repository import find_states
from worker.intervals.undone.repository import base_of, find_undone
from worker.models import Pair
from worker.moments import STEP
from worker.undo.changes import Ended, group
from worker.undo.events.repository import Event, find_events
from worker.undo.owners.repository import Snapshot, find_snapshots
from worker.undo.repository import find_past
from worker.undo.settled import Fact, Known, Settled, settled
from worker.undo.values import PageUndo, Restored, UndoneBatch


class _Reading(NamedTuple):
    """What is stored about pairs that batches changed which do not count."""

    voided: Mapping[Pair, Sequence[Event]]
    """The changes of those batches, the earliest first."""
    counting: Mapping[Pair, Sequence[Event]]
    own: Mapping[Pair, Sequence[Event]]
    """What the batch itself asked for."""


def settle(connection: Connection, batch: UndoneBatch, pairs: Collection[Pair]) -> PageUndo:
    """Return what undoes a batch for pairs that it names, or that it did not name as a snapshot.

    Raises DBAPIError.
    """
    reading = _read(connection, batch, pairs)
    known = _known(connection, reading)
    snapshots = find_snapshots(connection, batch.id)
    actions: dict[Pair, tuple[Action, datetime]] = {}
    restored: list[Restored] = []
    for pair, changes in reading.voided.items():
        facts = [*map(_fact_of, reading.counting[pair]), *_sweeps(snapshots, changes[0].moment)]
        wanted = settled(_fact_of(changes[0]), facts, known[pair])
        request = _request(batch, wanted, known[pair], reading.own[pair], reading.counting[pair])
        if request is None:
            continue
        actions[pair] = request
        if request[0] is Action.ENROLL and known[pair].enrolled_at is None:
            owner = _owner(wanted, known[pair], reading.own[pair])
            restored.append(Restored(pair, owner, request[1], request[1]))
    return PageUndo(group(actions), restored)


def _owner(wanted: Settled, known: Known, own: Sequence[Event]) -> int | None:
    """Return the data set to which an enrollment is restored: what the batch itself has ended."""
    ended_at = {e.moment for e in own if e.is_change and e.action is Action.DROP}
    owners = [each.data_set for each in known.past if each.ended_at in ended_at]
    return owners[0] if owners else wanted.owner


def _read(connection: Connection, batch: UndoneBatch, pairs: Collection[Pair]) -> _Reading:
    events = sorted(find_events(connection, pairs), key=_order)
    ids = {event.batch_id for event in events} | {batch.id}
    void = find_undone(connection, ids, batch.id, begun=True)
    voided, counting, own = (defaultdict[Pair, list[Event]](list) for _ in range(3))
    for event in events:
        if event.batch_id not in void:
            counting[event.pair].append(event)
        elif event.is_change:
            voided[event.pair].append(event)
        if event.batch_id == batch.id:
            own[event.pair].append(event)
    return _Reading(voided, counting, own)


def _order(event: Event) -> tuple[datetime, bool]:
    return event.moment, event.action is Action.ENROLL


def _known(connection: Connection, reading: _Reading) -> dict[Pair, Known]:
    if not reading.voided:
        return {}
    since = min(changes[0].moment for changes in reading.voided.values())
    past: dict[Pair, list[Ended]] = defaultdict(list)
    for row in find_past(connection, reading.voided, since):
        ended = Ended(row.ended_at, row.enrolled_at, row.data_set)
        past[row.student_id, row.course_id].append(ended)
    states = find_states(connection, reading.voided)
    return {
        pair: Known(
            state.enrolled_at,
            state.ended_at,
            past[pair],
            {e.moment for e in reading.voided[pair] if base_of(e.batch_id or "") != e.batch_id},
        )
        for pair, state in states.items()
    }


def _fact_of(event: Event) -> Fact:
    return Fact(event.moment, event.action, event.data_set)


def _sweeps(snapshots: Iterable[Snapshot], since: datetime) -> Iterator[Fact]:
    for each in snapshots:
        if each.counts and each.moment > since:
            yield Fact(each.moment, None, each.data_set)


def _request(
    batch: UndoneBatch,
    wanted: Settled,
    known: Known,
    own: Sequence[Event],
    counting: Sequence[Event],
) -> tuple[Action, datetime] | None:
    """Return what to ask for a pair, and when that counts; None if nothing is to be changed."""
    counts_at = max([batch.counts_at - STEP, *(event.moment for event in own)]) + STEP
    is_enrolled = known.enrolled_at is not None
    action = Action.DROP if is_enrolled else Action.ENROLL
    if wanted.is_enrolled is not is_enrolled:
        if known.changed_at is not None and known.changed_at >= counts_at:
            counts_at = known.changed_at + STEP
        return action, counts_at
    changes = [event for event in own if event.is_change]
    if not changes or changes[0].action is not changes[-1].action:
        return None
    reversal = Action.DROP if changes[-1].action is Action.ENROLL else Action.ENROLL
    if reversal is not action:
        return reversal, counts_at  # It is so already, and counted as such.
    # What a later request or snapshot decides is asked for all the same, so that it is listed.
    last = max((event.moment for event in counting), default=None)
    is_later = last is not None and (last > counts_at or (is_enrolled and last == counts_at))
    is_lacking = wanted.lacked_at is not None and wanted.lacked_at > counts_at
    return (action, counts_at) if is_later or is_lacking else None
