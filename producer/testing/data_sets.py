"""Hold in memory which data set each enrollment belongs to, and which others name it, too."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from producer.schemas import Action
from producer.testing.intervals import Intervals, Pair
from producer.testing.results import Result


@dataclass
class DataSets:
    """The data sets, and their enrollments among the given ones."""

    intervals: Intervals
    created: set[str] = field(default_factory=set)
    """The names of those that snapshots may use."""
    _swept: dict[str, datetime] = field(default_factory=dict)
    _notes: dict[Pair, dict[str, datetime]] = field(default_factory=dict)
    """When data sets other than the owner named a pair last."""

    def swept_at(self, name: str | None) -> datetime | None:
        """Return the moment of the last snapshot of a data set that was applied; None if none."""
        return None if name is None else self._swept.get(name)

    def sweep(self, name: str, moment: datetime) -> None:
        """Let older requests of a data set open nothing from now on."""
        self._swept[name] = moment

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
        """Return the data set that also names a pair, and names it still, or None."""
        for name, moment in sorted(self._notes.get(pair, {}).items(), key=lambda note: note[1]):
            swept_at = self._swept.get(name)
            if swept_at is None or moment >= swept_at:
                return name
        return None

    def pass_on(self, pair: Pair, name: str) -> None:
        """Let another data set own an enrollment."""
        self.intervals.owners[pair] = name
        self._notes.get(pair, {}).pop(name, None)
