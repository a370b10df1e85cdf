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
from worker.plan_models import ADOPTED
from worker.snapshots.values import Fate
from worker.undo.changes import Ended, group
from worker.undo.events.repository import Event, find_events
from worker.undo.owners.repository import Snapshot, Transfer, find_snapshots, find_transfers
from worker.undo.replay import Fact, Known, Passage, WantedState, owner_without, replay
from worker.undo.repository import find_past
from worker.undo.values import PageUndo, Restored, UndoneBatch


class _Reading(NamedTuple):
    """What requests did to pairs that were changed by the batch, or by others that do not count."""

    first: Mapping[Pair, Event]
    """The first change of each pair by one of those batches, or by the one that was submitted."""
    submitted: Mapping[Pair, Sequence[Event]]
    """The changes of the batch that was submitted, the earliest first."""
    voided: Mapping[Pair, Sequence[Event]]
    """The changes of the batches that do not count, the earliest first."""
    counting: Mapping[Pair, Sequence[Event]]
    """What all other requests did."""
    own: Mapping[Pair, Sequence[Event]]
    """What the batch itself asked for."""


def reverse_after_others(
    connection: Connection, batch: UndoneBatch, pairs: Collection[Pair]
) -> PageUndo:
    """Return what undoes a batch for pairs that it names, or that it lacks as a snapshot.

    Raises DBAPIError.
    """
    reading = _read(connection, batch, pairs)
    known = _known(connection, batch, reading)
    snapshots = find_snapshots(connection, batch.id)
    actions: dict[Pair, tuple[Action, datetime]] = {}
    restored: list[Restored] = []
    for pair, first in reading.first.items():
        facts = [*map(_fact_of, reading.counting[pair]), *_sweeps(snapshots, first.moment)]
        wanted = replay(_fact_of(first), facts, known[pair])
        own = reading.own[pair]
        since = known[pair].enrolled_at
        if since is not None and wanted.is_enrolled and _is_reopened(reading.submitted[pair]):
            actions[pair] = Action.ENROLL, _counts_at(batch, own)  # It stays enrolled.
            restored.append(Restored(pair, wanted.owner, since, since))
            continue
        request = None
        if reading.voided[pair]:
            request = _request(batch, wanted, known[pair], own, reading.counting[pair])
        if request is None:
            continue
        actions[pair] = request
        if request[0] is Action.ENROLL and since is None:
            owner = _owner(wanted, known[pair], own)
            restored.append(Restored(pair, owner, request[1], request[1]))
    return PageUndo(group(actions), restored)


def _is_reopened(changes: Sequence[Event]) -> bool:
    """Return whether changes have ended an enrollment and opened it again, maybe for another."""
    return (
        bool(changes) and changes[0].action is Action.DROP and changes[-1].action is Action.ENROLL
    )


def _owner(wanted: WantedState, known: Known, own: Sequence[Event]) -> int | None:
    """Return the data set to which an enrollment is restored: what the batch itself has ended."""
    ended_at = {e.moment for e in own if e.is_change and e.action is Action.DROP}
    owners = [each.data_set for each in known.past if each.ended_at in ended_at]
    return owners[0] if owners else wanted.owner


def _read(connection: Connection, batch: UndoneBatch, pairs: Collection[Pair]) -> _Reading:
    events = sorted(find_events(connection, pairs), key=_order)
    ids = {event.batch_id for event in events} | {batch.id}
    void = find_undone(connection, ids, batch.id, begun=True)
    base = base_of(batch.id)
    # The undo of a batch may have changed an owner alone, so the batch's own changes matter, too.
    undone = {base_of(batch_id) for batch_id in void} | {base}
    first: dict[Pair, Event] = {}
    voided, counting, own, submitted = (defaultdict[Pair, list[Event]](list) for _ in range(4))
    for event in events:
        if event.is_change and event.batch_id and base_of(event.batch_id) in undone:
            first.setdefault(event.pair, event)
        if event.is_change and event.batch_id == base:
            submitted[event.pair].append(event)
        if event.batch_id not in void:
            counting[event.pair].append(event)
        elif event.is_change:
            voided[event.pair].append(event)
        if event.batch_id == batch.id:
            own[event.pair].append(event)
    return _Reading(first, submitted, voided, counting, own)


def _order(event: Event) -> tuple[datetime, bool]:
    return event.moment, event.action is Action.ENROLL


def _known(connection: Connection, batch: UndoneBatch, reading: _Reading) -> dict[Pair, Known]:
    pairs = reading.first.keys()
    if not pairs:
        return {}
    since = min(change.moment for change in reading.first.values())
    adopted, passed_on = (
        find_transfers(connection, pairs, outcome) for outcome in (ADOPTED, Fate.PASSED_ON)
    )
    passages = _passages(connection, batch, adopted, passed_on)
    past: dict[Pair, list[Ended]] = defaultdict(list)
    for row in find_past(connection, pairs, since):
        pair = (row.student_id, row.course_id)
        ended = Ended(row.ended_at, row.enrolled_at, row.data_set)
        named = [event.moment for event in reading.counting[pair]]
        past[pair].append(owner_without(passages[pair], ended, named))
    adopted_at, passed_on_at = _moments_by_pair(adopted), _moments_by_pair(passed_on)
    return {
        pair: Known(
            state.enrolled_at,
            state.ended_at,
            past[pair],
            {e.moment for e in reading.voided[pair] if base_of(e.batch_id or "") != e.batch_id},
            adopted_at[pair],
            passed_on_at[pair],
        )
        for pair, state in find_states(connection, pairs).items()
    }


def _passages(
    connection: Connection,
    batch: UndoneBatch,
    adopted: Collection[Transfer],
    passed_on: Collection[Transfer],
) -> Mapping[Pair, Sequence[Passage]]:
    """Return how snapshots changed the owners of pairs, the last change of each pair first."""
    ids = {each.plan_id for each in (*adopted, *passed_on)}
    void = find_undone(connection, ids, batch.id, begun=True)
    passages: dict[Pair, list[Passage]] = defaultdict(list)
    for each in adopted:
        passages[each.pair].append(Passage(each.moment, None, each.plan_id not in void))
    for each in passed_on:
        passages[each.pair].append(Passage(each.moment, each.data_set, each.plan_id not in void))
    for listed in passages.values():
        listed.sort(key=lambda passage: passage.moment, reverse=True)
    return passages


def _moments_by_pair(transfers: Iterable[Transfer]) -> Mapping[Pair, set[datetime]]:
    moments: dict[Pair, set[datetime]] = defaultdict(set)
    for each in transfers:
        moments[each.pair].add(each.moment)
    return moments


def _fact_of(event: Event) -> Fact:
    return Fact(event.moment, event.action, event.data_set)


def _sweeps(snapshots: Iterable[Snapshot], since: datetime) -> Iterator[Fact]:
    for each in snapshots:
        if each.counts and each.moment > since:
            yield Fact(each.moment, None, each.data_set)


def _counts_at(batch: UndoneBatch, own: Sequence[Event]) -> datetime:
    return max([batch.counts_at - STEP, *(event.moment for event in own)]) + STEP


def _request(
    batch: UndoneBatch,
    wanted: WantedState,
    known: Known,
    own: Sequence[Event],
    counting: Sequence[Event],
) -> tuple[Action, datetime] | None:
    """Return what to ask for a pair, and when that counts; None if nothing is to be changed."""
    counts_at = _counts_at(batch, own)
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
