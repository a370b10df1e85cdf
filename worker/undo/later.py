"""Find out which pairs no request has named since a moment."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from worker.intervals.undone.repository import find_undone
from worker.models import Pair
from worker.undo.events.repository import find_events


def pairs_left_alone(connection: Connection, since: Mapping[Pair, datetime]) -> set[Pair]:
    """Return those of these pairs that no request has named which counts since a moment of each.

    Requests of batches that were undone do not count.
    """
    if not since:
        return set()
    events = find_events(connection, since.keys(), min(since.values()))
    undone = find_undone(connection, {event.batch_id for event in events})
    return set(since) - {
        event.pair
        for event in events
        if event.batch_id not in undone and event.moment >= since[event.pair]
    }
