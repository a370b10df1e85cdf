"""Hold the enrollments of all pairs as intervals in memory; the latest moment of a pair wins."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

Pair = tuple[int, int]
"""The keys of a student and a course."""


class Change(NamedTuple):
    """What a request did to the enrollment of a pair."""

    is_made: bool = False
    """True if the enrollment began or ended; false if there was nothing to do."""
    superseded_by: datetime | None = None
    """The moment of a later request that asks for the opposite and has won."""


class Interval(NamedTuple):
    """An enrollment of a pair; it lasts until `ended_at`, or still does."""

    enrolled_at: datetime
    ended_at: datetime | None = None


@dataclass
class Intervals:
    """The open and the closed enrollments of all pairs, and drops of pairs without one."""

    open: dict[Pair, datetime] = field(default_factory=dict)
    """The moment at which each open enrollment began."""
    past: dict[Pair, dict[datetime, datetime | None]] = field(default_factory=dict)
    """When the closed enrollments of a pair began, by the moments at which they ended.

    None stands for a drop of a pair that was not enrolled: an older request must not enroll it.
    """
    owners: dict[Pair, str] = field(default_factory=dict)
    """The data set that each open enrollment belongs to, if it belongs to one."""
    past_owners: dict[tuple[Pair, datetime], str] = field(default_factory=dict)
    """The data set that each closed enrollment belonged to, by its pair and its end."""
    _confirmed: dict[Pair, datetime] = field(default_factory=dict)
    """The latest moment of a request that enrolled a pair or found it enrolled."""

    def enroll(self, pair: Pair, moment: datetime, swept_at: datetime | None = None) -> Change:
        """Enroll a pair, unless a later request, or a later snapshot, has dropped it."""
        latest_end = max(self.past.get(pair, ()), default=moment)
        if pair not in self.open and latest_end > moment:
            return Change(superseded_by=latest_end)
        if pair not in self.open and swept_at is not None and swept_at > moment:
            return Change(superseded_by=swept_at)
        is_new = pair not in self.open
        self.open.setdefault(pair, moment)
        self._confirmed[pair] = max(moment, self._confirmed.get(pair, moment))
        return Change(is_made=is_new)

    def drop(self, pair: Pair, moment: datetime) -> Change:
        """Drop a pair, unless a request of the same or a later moment asks for it."""
        past = self.past.setdefault(pair, {})
        if pair in self.open:
            if (confirmed := self._confirmed[pair]) >= moment:
                return Change(superseded_by=confirmed)
            past[moment] = self.open.pop(pair)
            if (owner := self.owners.pop(pair, None)) is not None:
                self.past_owners[pair, moment] = owner
            return Change(is_made=True)
        if all(ended_at < moment for ended_at in past):
            # The latest drop is enough to supersede older requests: one is stored for each pair.
            for ended_at in [end for end, enrolled_at in past.items() if enrolled_at is None]:
                del past[ended_at]
            past[moment] = None
        return Change()

    def confirmed_at(self, pair: Pair) -> datetime:
        """Return the latest moment of a request that enrolled an open pair or found it enrolled."""
        return self._confirmed[pair]

    def changed_at(self, pair: Pair) -> datetime | None:
        """Return when a pair was enrolled or dropped last; None if it never was."""
        moments = list(self.past.get(pair, ()))
        if pair in self.open:
            moments.append(self.open[pair])
        return max(moments, default=None)

    def confirm(self, pair: Pair, moments: Iterable[datetime]) -> None:
        """Let only requests of these moments, and the one that opened it, have named a pair."""
        if pair in self.open:
            self._confirmed[pair] = max([self.open[pair], *moments])

    def of_course(self, course: int) -> Iterator[tuple[int, Interval]]:
        """Yield the enrollments in a course, each with the key of the student."""
        for pair, enrolled_at in self.open.items():
            if pair[1] == course:
                yield pair[0], Interval(enrolled_at)
        for pair, past in self.past.items():
            for ended_at, began_at in past.items() if pair[1] == course else ():
                if began_at is not None:
                    yield pair[0], Interval(began_at, ended_at)
