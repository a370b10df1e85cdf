"""The rules of order as a plain model: of two requests or records, the later one wins."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from producer.schemas import Action


@dataclass
class Record:
    """A row of the roster: each field with the moment of the record that last named it."""

    fields: dict[str, tuple[datetime, str]] = field(default_factory=dict)

    def upsert(self, moment: datetime, values: dict[str, str]) -> None:
        for name, value in values.items():
            named = (moment, value)
            self.fields[name] = max(self.fields.get(name, named), named)

    def values(self) -> dict[str, str]:
        return {name: value for name, (_, value) in self.fields.items()}


Pair = tuple[str, str]
AnyPair = TypeVar("AnyPair")


@dataclass
class Registry:
    """Open and past enrollments, decided one request after another."""

    open: dict[Pair, datetime] = field(default_factory=dict)
    """When each enrollment began."""
    past: dict[tuple[Pair, datetime], datetime | None] = field(default_factory=dict)
    """When each enrollment that ended at a moment began; None for a drop of an absent pair."""
    confirmed: dict[Pair, datetime] = field(default_factory=dict)

    def apply(self, requests: Iterable[tuple[Action, Pair, datetime]]) -> None:
        """Decide the requests of one transaction, by their moments; enrolls come last."""
        for action, pair, moment in sorted(requests, key=lambda r: (r[2], r[0] is Action.ENROLL)):
            (self.enroll if action is Action.ENROLL else self.drop)(pair, moment)

    def enroll(self, pair: Pair, moment: datetime) -> None:
        is_late = any(ended > moment for who, ended in self.past if who == pair)
        if pair in self.open or not is_late:
            self.open.setdefault(pair, moment)
            self.confirmed[pair] = max(moment, self.confirmed.get(pair, moment))

    def drop(self, pair: Pair, moment: datetime) -> None:
        if pair in self.open:
            if self.confirmed[pair] < moment:
                self.past[pair, moment] = self.open.pop(pair)
            return
        ends = [ended for who, ended in self.past if who == pair]
        if all(ended < moment for ended in ends):
            for ended in ends:
                if self.past[pair, ended] is None:
                    del self.past[pair, ended]
            self.past[pair, moment] = None


def enrolled_pairs(requests: Iterable[tuple[Action, AnyPair, datetime]]) -> set[AnyPair]:
    """Return the pairs whose latest request enrolls; at equal moments, enrolled wins."""
    latest: dict[AnyPair, tuple[datetime, bool]] = {}
    for action, pair, moment in requests:
        asked = (moment, action is Action.ENROLL)
        latest[pair] = max(asked, latest.get(pair, asked))
    return {pair for pair, (_, enrolls) in latest.items() if enrolls}
