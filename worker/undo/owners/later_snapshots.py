"""Leave to later snapshots what they do not name: such an enrollment would have ended with them.

A batch ended an enrollment of a data set, and a later snapshot of the data set did not name it
either. The undo of the batch does not enroll it again: the snapshot is the later fact.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection

from producer.schemas import Action
from worker.data_sets.repository import find_swept
from worker.intervals.repository import find_states, keep_drops
from worker.intervals.undone.repository import base_of
from worker.intervals.values import Drop
from worker.models import Pair
from worker.undo.changes import group
from worker.undo.owners.repository import find_snapshot, find_snapshots, find_submitted
from worker.undo.owners.restore import find_namings
from worker.undo.values import PageUndo, Restored, UndoneBatch


def leave_to_snapshots(connection: Connection, page: PageUndo, undone: str) -> PageUndo:
    """Record for pairs of a page that later snapshots of their owners do not name them.

    So the requests of the page that would enroll them are superseded. A pair that another data set
    names, too, is enrolled again and belongs to that one; the page is returned with such owners.
    `undone` is the batch that is being undone. Raises DBAPIError.
    """
    owned = {each.pair: each for each in page.restored if each.data_set is not None}
    swept_at = _outdated(connection, owned, undone) if owned else {}
    if not swept_at:
        return page
    states = find_states(connection, swept_at)
    for pair, state in states.items():
        is_later = state.ended_at is not None and state.ended_at > owned[pair].counts_at
        if state.enrolled_at is not None or is_later:
            del swept_at[pair]  # A later request has decided about it.
    heirs = _heirs(connection, swept_at, owned, undone)
    _keep_drops(connection, {p: at for p, at in swept_at.items() if p not in heirs}, owned)
    restored = [r._replace(data_set=heirs.get(r.pair, r.data_set)) for r in page.restored]
    return page._replace(restored=restored)


def list_dropped(connection: Connection, batch: UndoneBatch, adopted: Collection[Pair]) -> PageUndo:
    """Ask again for pairs that a snapshot adopted, if a later one of its data set dropped them.

    The later one wins, so each is left as it is, and listed. Raises DBAPIError.
    """
    own = find_submitted(connection, base_of(batch.id))
    later = {
        each.moment
        for each in find_snapshots(connection, batch.id)
        if own is not None and each.data_set == own.data_set and each.counts
    }
    states = find_states(connection, adopted) if later else {}
    left: dict[Pair, tuple[Action, datetime]] = {
        pair: (Action.ENROLL, batch.counts_at)
        for pair, state in states.items()
        if state.enrolled_at is None
        and state.ended_at in later
        and state.ended_at > batch.counts_at
    }
    return PageUndo(group(left), [])


def _outdated(
    connection: Connection, owned: Mapping[Pair, Restored], undone: str
) -> dict[Pair, datetime]:
    """Return the pairs that count before the last snapshot of their owner, with its moment."""
    data_sets = {each.data_set for each in owned.values() if each.data_set is not None}
    swept = _last_sweeps(connection, data_sets, undone)
    moments = {pair: swept.get(each.data_set or 0) for pair, each in owned.items()}
    return {
        pair: at for pair, at in moments.items() if at is not None and at > owned[pair].counts_at
    }


def _last_sweeps(
    connection: Connection, data_sets: Collection[int], undone: str
) -> dict[int, datetime]:
    """Return when data sets were swept last, by snapshots that count once all undos are complete.

    An undo that was interrupted has not yet reset the moment of the last sweep.
    """
    swept = find_swept(connection, data_sets)
    snapshots = find_snapshots(connection, undone)
    for data_set, moment in list(swept.items()):
        own = [each for each in snapshots if each.data_set == data_set]
        if any(each.moment == moment and not each.counts for each in own):
            del swept[data_set]
            swept |= {each.data_set: each.moment for each in sorted(own) if each.counts}
    return swept


def _heirs(
    connection: Connection,
    pairs: Collection[Pair],
    owned: Mapping[Pair, Restored],
    undone: str,
) -> dict[Pair, int]:
    """Return the data sets that also name pairs, the one that did so last for each."""
    namings = [
        (moment, -data_set, pair)
        for data_set, named in find_namings(connection, pairs, undone).items()
        for pair, moment in named.items()
        if data_set != owned[pair].data_set
    ]
    return {pair: -negative for _, negative, pair in sorted(namings) if pair in pairs}


def _keep_drops(
    connection: Connection, swept_at: Mapping[Pair, datetime], owned: Mapping[Pair, Restored]
) -> None:
    snapshots = {(owned[pair].data_set or 0, at) for pair, at in swept_at.items()}
    named = {key: find_snapshot(connection, *key) for key in snapshots}
    drops = {}
    for pair, at in swept_at.items():
        plan_id, name = named[owned[pair].data_set or 0, at]
        drops[pair] = Drop(at, f"not in the snapshot of {name}", plan_id)
    keep_drops(connection, drops)
