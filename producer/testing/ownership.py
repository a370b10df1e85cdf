"""Restore in memory the owners of enrollments, and who else names them, when a batch is undone.

A snapshot adopts enrollments and passes them on, and each batch notes what it names of other data
sets. No request says so: it follows from the batches that count.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from producer.fields import UNDO_PREFIX
from producer.schemas import Action
from producer.testing.data_sets import Snapshot
from producer.testing.intervals import Pair
from producer.testing.results import Result
from producer.testing.world import World

_STEP = timedelta(microseconds=1)


class _Event(NamedTuple):
    """What a request asked of a pair, and was not superseded in."""

    pair: Pair
    action: Action
    moment: datetime
    is_change: bool
    """False if the pair was enrolled already, or was not enrolled when it was dropped."""
    data_set: str | None
    """That of the batch."""


def submitted_id(batch_id: str) -> str:
    """Return the id of the batch that was submitted, for it or for an undo of it."""
    while batch_id.startswith(UNDO_PREFIX):
        batch_id = batch_id.removeprefix(UNDO_PREFIX)
    return batch_id


class Ownership:
    """The owners and the notes of a world, as they follow from the batches that count."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._data_sets = world.data_sets

    def restore(self, undo_id: str) -> None:
        """Take back what the batch did that was just undone; do it again if an undo was undone."""
        batch_id = submitted_id(undo_id)
        data_set, moment = self._world.batches.origin_of(batch_id)
        if data_set is None:
            return
        snapshot = self._data_sets.snapshots.get(batch_id)
        if self._world.batches.counts(batch_id):
            self._apply_again(batch_id, data_set, snapshot)
        else:
            self._take_back(data_set, moment, snapshot)

    def restore_reopened(self, undo_id: str, pair: Pair, ended_at: datetime) -> None:
        """Let a pair belong to its former owner that a batch ended and opened again, or to its own.

        `ended_at` is when the batch ended it.
        """
        batch_id, intervals = submitted_id(undo_id), self._world.enrollments.intervals
        owner = intervals.past_owners.get((pair, ended_at))
        if self._world.batches.counts(batch_id):
            owner, _ = self._world.batches.origin_of(batch_id)
        self._data_sets.change_owner([pair], intervals.owners.get(pair), owner)

    def renew_notes(self, pairs: Collection[Pair], name: str | None = None) -> None:
        """Note again which other data sets name pairs: the data set of a name, or all of them."""
        namings = self._namings(pairs)
        self._data_sets.remove_notes(pairs, name)
        for data_set, named in namings.items():
            for pair, moment in named.items() if name in (None, data_set) else ():
                self._data_sets.note(pair, data_set, moment)

    def _take_back(self, name: str, moment: datetime, snapshot: Snapshot | None) -> None:
        data_sets, earlier = self._data_sets, set[Pair]()
        if snapshot is not None:
            before = self._last_snapshot(name)
            data_sets.change_sweep(name, moment, before)
            adopted = self._left_alone(snapshot.adopted, moment)
            data_sets.change_owner(adopted, name, None)
            data_sets.remove_notes(adopted)
            if before is None or before < moment:
                # A later snapshot that does not name them would have passed them on as well.
                passed_on = self._left_alone(snapshot.passed_on, moment)
                for pair in passed_on & self._world.enrollments.intervals.open.keys():
                    data_sets.pass_on(pair, name)
                self.renew_notes(passed_on)
            # The end of a snapshot removed the notes of its data set that it did not renew.
            between = self._world.batches.ids_of(name, before, moment)
            earlier = self._confirmed_by(between)
        self.renew_notes(data_sets.noted_by(name, moment) | earlier, name)

    def _apply_again(self, batch_id: str, name: str, snapshot: Snapshot | None) -> None:
        data_sets = self._data_sets
        if snapshot is not None:
            data_sets.sweep(name, max(snapshot.moment, data_sets.swept_at(name) or snapshot.moment))
            adopted = self._left_alone(snapshot.adopted, snapshot.moment)
            data_sets.change_owner(adopted, None, name)
            self.renew_notes(adopted)
        self.renew_notes(self._confirmed_by({batch_id}), name)
        if snapshot is not None:
            for pair in self._left_alone(snapshot.passed_on, snapshot.moment):
                heir = data_sets.heir_of(pair)
                if heir is not None and self._world.enrollments.intervals.owners.get(pair) == name:
                    data_sets.pass_on(pair, heir)
            data_sets.forget_notes_of(name, snapshot.moment, set())

    def _last_snapshot(self, name: str) -> datetime | None:
        """Return the moment of the last snapshot of a data set that counts."""
        return max(
            (
                snapshot.moment
                for batch_id, snapshot in self._data_sets.snapshots.items()
                if snapshot.data_set == name and self._world.batches.counts(batch_id)
            ),
            default=None,
        )

    def _left_alone(self, pairs: Collection[Pair], moment: datetime) -> set[Pair]:
        """Return those of these pairs that no request has named which counts after a moment."""
        later = (event for event in self._counting(pairs) if event.moment >= moment + _STEP)
        return set(pairs) - {event.pair for event in later}

    def _namings(self, pairs: Collection[Pair]) -> Mapping[str, Mapping[Pair, datetime]]:
        """Return which data sets name enrolled pairs, and when each did so last.

        What counts before the last drop of a pair is left out, or before its adoption: as long as
        an enrollment has no owner, no note is made beside that.
        """
        events = list(self._counting(pairs))
        since: dict[Pair, datetime] = {}
        dropped = ((each.pair, each.moment) for each in events if each.action is Action.DROP)
        for pair, moment in [*dropped, *self._adoptions()]:
            since[pair] = max(moment, since.get(pair, moment))
        named: dict[str, dict[Pair, datetime]] = defaultdict(dict)
        for pair, action, moment, is_change, data_set in events:
            is_naming = action is Action.ENROLL and not is_change
            if is_naming and data_set is not None and moment >= since.get(pair, moment):
                moments = named[data_set]
                moments[pair] = max(moment, moments.get(pair, moment))
        return named

    def _adoptions(self) -> Iterator[tuple[Pair, datetime]]:
        for batch_id, snapshot in self._data_sets.snapshots.items():
            if self._world.batches.counts(batch_id):
                yield from ((pair, snapshot.moment) for pair in snapshot.adopted)

    def _confirmed_by(self, batch_ids: Collection[str]) -> set[Pair]:
        """Return the pairs that batches named and that were enrolled already."""
        results = self._world.enrollments.results.values()
        own = (result for result in results if result.batch_id in batch_ids)
        events = self._events_of(own)
        return {
            event.pair for event in events if event.action is Action.ENROLL and not event.is_change
        }

    def _counting(self, pairs: Collection[Pair]) -> Iterator[_Event]:
        """Yield the events of pairs that were not undone."""
        wanted = set(pairs)
        batches = self._world.batches
        results = self._world.enrollments.results.values() if wanted else ()
        counting = (result for result in results if batches.counts(result.batch_id))
        return (event for event in self._events_of(counting) if event.pair in wanted)

    def _events_of(self, results: Iterable[Result]) -> Iterator[_Event]:
        for result in results:
            data_set = None
            if result.batch_id is not None:
                data_set, _ = self._world.batches.origin_of(result.batch_id)
            if not isinstance(result.student, int):
                continue
            for course in result.courses:
                is_made, superseded_by = course.change
                if superseded_by is None:
                    pair = (result.student, course.key)
                    yield _Event(pair, course.action, result.moment, is_made, data_set)
