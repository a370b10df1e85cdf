"""Restore the owners of enrollments, and the notes of data sets, when a batch is undone.

What a batch did with them besides opening and ending enrollments has no requests of its own: a
snapshot adopts enrollments and passes them on, and each batch notes what it names of other data
sets. All of it is done again when the undo is undone. Knows no SQL.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import chain

from sqlalchemy import Connection

from producer.schemas import Action
from worker.data_sets.repository import (
    add_notes,
    begin_sweep,
    find_swept,
    remove_notes_before,
)
from worker.intervals.undone.repository import base_of, find_undone
from worker.models import Pair
from worker.moments import STEP
from worker.plan_models import ADOPTED
from worker.snapshots.swept.repository import find_heirs, find_owners, pass_on
from worker.snapshots.values import Fate
from worker.undo.events.repository import Event, find_events
from worker.undo.owners.repository import (
    Submitted,
    batches_between,
    change_owner,
    find_submitted,
    find_transfers,
    last_snapshot,
    pages_confirmed,
    pages_of_notes,
    pages_with_outcome,
    remove_notes,
    set_swept_at,
)


def restore_ownership(connection: Connection, undo_id: str) -> None:
    """Restore what a batch did with owners and notes, in the transaction that ends its undo.

    If that undoes an undo, do it again. The lock on enrollments is held alone. Raises DBAPIError.
    """
    batch = find_submitted(connection, base_of(undo_id))
    if batch is None:
        return
    counts = not find_undone(connection, [batch.id])
    if counts:
        _apply_again(connection, batch)
    else:
        _take_back(connection, batch)


def _take_back(connection: Connection, batch: Submitted) -> None:
    earlier: list[str] = []
    if batch.is_snapshot:
        before = last_snapshot(connection, batch.data_set)
        set_swept_at(connection, batch.data_set, batch.moment, before)
        for pairs in pages_with_outcome(connection, batch.id, ADOPTED):
            alone = _left_alone(connection, batch, pairs)
            change_owner(connection, alone, batch.data_set, None)
            remove_notes(connection, alone)
        # A later snapshot that does not name them would have passed them on as well.
        is_last = before is None or before < batch.moment
        for pairs in pages_with_outcome(connection, batch.id, Fate.PASSED_ON) if is_last else ():
            _return(connection, batch, _left_alone(connection, batch, pairs))
        # The end of a snapshot removed the notes of its data set that it did not renew.
        earlier = batches_between(connection, batch.data_set, before, batch.moment)
    named = pages_of_notes(connection, batch.data_set, batch.moment)
    _renew_notes(connection, batch, [*list(named), *_confirmed(connection, batch, earlier)])


def _return(connection: Connection, batch: Submitted, pairs: Collection[Pair]) -> None:
    """Let a data set own again what its snapshot had passed on."""
    heirs: dict[int | None, list[Pair]] = defaultdict(list)
    for pair, owner in (find_owners(connection, pairs) if pairs else {}).items():
        heirs[owner].append(pair)
    for heir, listed in heirs.items():
        change_owner(connection, listed, heir, batch.data_set)
        renew_notes(connection, listed)


def _apply_again(connection: Connection, batch: Submitted) -> None:
    if batch.is_snapshot:
        begin_sweep(connection, batch.data_set, batch.moment)
        for pairs in pages_with_outcome(connection, batch.id, ADOPTED):
            alone = _left_alone(connection, batch, pairs)
            change_owner(connection, alone, None, batch.data_set)
            renew_notes(connection, alone)
    _renew_notes(connection, batch, _confirmed(connection, batch, [batch.id]))
    if batch.is_snapshot:
        for pairs in pages_with_outcome(connection, batch.id, Fate.PASSED_ON):
            alone = _left_alone(connection, batch, pairs)
            own = [p for p, o in find_owners(connection, alone).items() if o == batch.data_set]
            pass_on(connection, find_heirs(connection, own, batch.data_set) if own else {})
        remove_notes_before(connection, batch.data_set, batch.moment)


def _left_alone(connection: Connection, batch: Submitted, pairs: Collection[Pair]) -> set[Pair]:
    """Return the pairs that no request has named which counts later than a batch.

    Requests of batches that were undone do not count.
    """
    events = find_events(connection, pairs, batch.moment + STEP)
    undone = find_undone(connection, {event.batch_id for event in events})
    return set(pairs) - {event.pair for event in events if event.batch_id not in undone}


def _confirmed(
    connection: Connection, batch: Submitted, batch_ids: Iterable[str]
) -> Iterator[list[Pair]]:
    return chain.from_iterable(
        pages_confirmed(connection, batch_id, batch.data_set) for batch_id in batch_ids
    )


def _renew_notes(
    connection: Connection, batch: Submitted, pages: Iterable[Collection[Pair]]
) -> None:
    for pairs in pages:
        renew_notes(connection, pairs, batch.data_set)


def renew_notes(
    connection: Connection,
    pairs: Collection[Pair],
    data_set: int | None = None,
    finishing: str | None = None,
) -> None:
    """Note again which other data sets name pairs: one data set, or all.

    `finishing` is the batch that is being undone, until its undo is at its end.
    """
    if not pairs:
        return
    namings = find_namings(connection, pairs, finishing)
    remove_notes(connection, pairs, data_set)
    for key, named in namings.items():
        if data_set in (None, key):
            add_notes(connection, key, named)


def find_namings(
    connection: Connection, pairs: Collection[Pair], finishing: str | None = None
) -> dict[int, dict[Pair, datetime]]:
    """Return which data sets name pairs, and when each did so last.

    The results of requests that count say so: of those that named a pair which was enrolled, after
    it was dropped last and since the last snapshot of their data set.
    """
    events = find_events(connection, pairs)
    adoptions = find_transfers(connection, pairs, ADOPTED)
    ids = {event.batch_id for event in events} | {each.plan_id for each in adoptions}
    undone = find_undone(connection, ids, finishing)
    counting = [event for event in events if event.batch_id not in undone]
    # As long as an enrollment has no owner, none is noted beside that.
    owned = [(each.pair, each.moment) for each in adoptions if each.plan_id not in undone]
    namings = _namings(counting, owned)
    swept = find_swept(connection, namings.keys()) if namings else {}
    return {
        key: {p: at for p, at in named.items() if not _is_outdated(at, swept.get(key))}
        for key, named in namings.items()
    }


def _namings(
    events: Collection[Event], owned: Collection[tuple[Pair, datetime]]
) -> dict[int, dict[Pair, datetime]]:
    """Return when each data set last named pairs that were enrolled already.

    What counts before a drop of the pair is left out, or before one of the moments in `owned`.
    """
    dropped = [(event.pair, event.moment) for event in events if event.action is Action.DROP]
    since: dict[Pair, datetime] = {}
    for pair, moment in chain(dropped, owned):
        since[pair] = max(moment, since.get(pair, moment))
    named: dict[int, dict[Pair, datetime]] = defaultdict(dict)
    for pair, action, moment, is_change, _, data_set in events:
        if action is not Action.ENROLL or is_change or data_set is None:
            continue
        if moment >= since.get(pair, moment):
            moments = named[data_set]
            moments[pair] = max(moment, moments.get(pair, moment))
    return named


def _is_outdated(named_at: datetime, swept_at: datetime | None) -> bool:
    return swept_at is not None and named_at < swept_at
