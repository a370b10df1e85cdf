"""Hold in memory which data set each enrollment belongs to, and which others name it, too."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from producer.schemas import Action
from producer.testing.intervals import Intervals, Pair
from producer.testing.results import Result


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was applied, and what it did with owners."""

    data_set: str
    moment: datetime
    adopted: frozenset[Pair]
    """The enrollments without an owner that it named, and that its data set owns since."""
    passed_on: frozenset[Pair]
    """The enrollments that it did not name, and that belong to another data set since."""


@dataclass
class DataSets:
    """The data sets, and their enrollments among the given ones."""

    intervals: Intervals
    created: set[str] = field(default_factory=set)
    """The names of those that snapshots may use."""
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    """The snapshots that were applied, by batch id."""
    _swept: dict[str, datetime] = field(default_factory=dict)
    _notes: dict[Pair, dict[str, datetime]] = field(default_factory=dict)
    """When data sets other than the owner named a pair last."""

    def swept_at(self, name: str | None) -> datetime | None:
        """Return the moment of the last snapshot of a data set that was applied; None if none."""
        return None if name is None else self._swept.get(name)

    def sweep(self, name: str, moment: datetime) -> None:
        """Let older requests of a data set open nothing from now on."""
        self._swept[name] = moment

    def change_sweep(self, name: str, before: datetime, after: datetime | None) -> None:
        """Change the moment of the last snapshot of a data set, if it is still the one it was."""
        if self._swept.get(name) == before:
            del self._swept[name]
            if after is not None:
                self._swept[name] = after

    def own(self, name: str, results: Iterable[Result]) -> None:
        """Let a data set own what requests of it opened, and note what else they name."""
        for result in results:
            if not isinstance(result.student, int):
                continue
            for course in result.courses:
                pair = (result.student, course.key)
                if course.change.superseded_by is not None:
                    continue
                if course.action is Action.DROP:
                    self._forget_notes(pair, result.moment)
                elif course.change.is_made:
                    self.intervals.owners[pair] = name
                else:
                    self.note(pair, name, result.moment)

    def note(self, pair: Pair, name: str, moment: datetime) -> None:
        """Note that a data set names a pair that another one owns."""
        owner = self.intervals.owners.get(pair)
        swept_at = self._swept.get(name)
        if owner in (None, name) or (swept_at is not None and moment < swept_at):
            return
        notes = self._notes.setdefault(pair, {})
        notes[name] = max(moment, notes.get(name, moment))

    def _forget_notes(self, pair: Pair, moment: datetime) -> None:
        notes = self._notes.get(pair, {})
        self._notes[pair] = {name: noted for name, noted in notes.items() if noted > moment}

    def forget_notes_of(self, name: str, moment: datetime, named: set[Pair]) -> None:
        """Remove the older notes of a data set about pairs that its snapshot does not name."""
        for pair, notes in self._notes.items():
            if pair not in named and notes.get(name, moment) < moment:
                del notes[name]

    def noted_by(self, name: str, since: datetime) -> set[Pair]:
        """Return the pairs about which a data set has a note that counts at a moment or later."""
        return {
            pair for pair, notes in self._notes.items() if name in notes and notes[name] >= since
        }

    def remove_notes(self, pairs: Iterable[Pair], name: str | None = None) -> None:
        """Remove the notes about pairs: those of a data set, or all."""
        for pair in pairs:
            notes = self._notes.get(pair, {})
            self._notes[pair] = {o: at for o, at in notes.items() if name not in (None, o)}

    def owned_by(self, name: str) -> set[Pair]:
        """Return the open enrollments of a data set."""
        owners = self.intervals.owners.items()
        return {pair for pair, owner in owners if owner == name and pair in self.intervals.open}

    def not_owned(self, pairs: Iterable[Pair]) -> int:
        """Return how many of these pairs are enrolled and belong to no data set."""
        return sum(p in self.intervals.open and p not in self.intervals.owners for p in pairs)

    def owners_of_new(self, name: str, pairs: Iterable[Pair]) -> Counter[str]:
        """Return which other data sets own pairs that a data set had not named before."""
        open_pairs = (pair for pair in pairs if pair in self.intervals.open)
        new = (pair for pair in open_pairs if name not in self._notes.get(pair, {}))
        owners = Counter(self.intervals.owners[p] for p in new if p in self.intervals.owners)
        del owners[name]
        return owners

    def heir_of(self, pair: Pair) -> str | None:
        """Return the data set that also names a pair, and did so last, or None."""
        notes = self._notes.get(pair, {})
        counting = (
            name for name, moment in notes.items() if moment >= self._swept.get(name, moment)
        )
        return max(counting, key=lambda name: notes[name], default=None)

    def change_owner(self, pairs: Iterable[Pair], before: str | None, after: str | None) -> None:
        """Let the owner of open enrollments be another one, if it is still the one that it was."""
        owners = self.intervals.owners
        for pair in pairs:
            if pair in self.intervals.open and owners.get(pair) == before:
                owners.pop(pair, None)
                if after is not None:
                    owners[pair] = after

    def pass_on(self, pair: Pair, name: str) -> None:
        """Let another data set own an enrollment."""
        self.intervals.owners[pair] = name
        self._notes.get(pair, {}).pop(name, None)
