"""A plain model of one data set: which pairs must be enrolled, which may be, and who owns them.

The latest request about a pair decides. The model does not know in which order two requests were
decided, nor how much of a batch was applied before it was stopped; what depends on that, may be.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from producer.schemas import Action

Pair = tuple[str, str]
"""The SIS ids of a student and a course."""

Moment = tuple[int, int]
"""The number of a submission, in the order of their moments, and microseconds after it."""


class State(NamedTuple):
    """What is known about a pair; None is what may or may not be true."""

    enrolled: bool | None = False
    owned: bool | None = None
    """Whether the data set owns the enrollment, if there is one."""


class Change(NamedTuple):
    """What a batch did to a pair, and what it found there."""

    action: Action
    owned: bool | None
    is_certain: bool


class FeedModel:
    """The pairs after each submission has come to its end."""

    def __init__(self) -> None:
        self.states: defaultdict[Pair, State] = defaultdict(State)
        self._asks: defaultdict[Pair, list[tuple[Moment, bool]]] = defaultdict(list)
        self._changes: dict[str, tuple[Moment, dict[Pair, Change]]] = {}
        self._snapshots: dict[str, set[Pair]] = {}
        """What each snapshot names that was not undone."""
        self._undone_snapshots: dict[str, set[Pair]] = {}

    def must(self) -> set[Pair]:
        """Return the pairs that must be enrolled."""
        return {pair for pair, state in self.states.items() if state.enrolled}

    def may(self) -> set[Pair]:
        """Return the pairs that may be enrolled."""
        return {pair for pair, state in self.states.items() if state.enrolled is None}

    def absent(self, wanted: set[Pair]) -> tuple[set[Pair], set[Pair]]:
        """Return the pairs that a snapshot which names `wanted` must drop, and all it may drop."""
        others = [(pair, self.states[pair]) for pair in self.states.keys() - wanted]
        must = {pair for pair, state in others if state == (True, True)}
        may = {pair for pair, state in others if False not in state}
        return must, may

    def snapshot(self, name: str, number: int, wanted: set[Pair]) -> None:
        """Apply a file that is the whole truth."""
        must, may = self.absent(wanted)
        moment = (number, 0)
        changes = self._ask(moment, wanted, must, owned=True)
        for pair in may - must:
            self._drop(changes, pair, moment, is_certain=False)
        self._changes[name] = moment, changes
        self._snapshots[name] = wanted

    def batch(
        self, name: str, number: int, enrolled: set[Pair], dropped: set[Pair], *, owned: bool
    ) -> None:
        """Apply a batch, or a single request, that names each of its pairs once."""
        moment = (number, 0)
        self._changes[name] = moment, self._ask(moment, enrolled, dropped, owned=owned)

    def stopped(
        self, name: str, number: int, enrolled: set[Pair], dropped: set[Pair], *, owned: bool
    ) -> None:
        """Apply a part of a batch, and undo that part."""
        before = {pair: self.states[pair] for pair in enrolled | dropped}
        moment = (number, 0)
        changes = self._ask(moment, enrolled, dropped, owned=owned, is_certain=False)
        self._changes[name] = moment, changes
        self.undo(name)
        self.states.update(before)

    def undo(self, name: str) -> None:
        """Undo a batch, a snapshot or an undo; the undo has the name `undo:` and its name."""
        (number, microsecond), changes = self._changes[name]
        moment = (number, microsecond + 1)
        self._count_or_not(name)
        undone: dict[Pair, Change] = {}
        for pair, change in changes.items():
            certain = change.is_certain
            if change.action is Action.ENROLL:
                self._drop(undone, pair, moment, is_certain=certain)
                continue
            if change.owned is not False and not self.states[pair].enrolled:
                lacking = self._lacking(pair, moment)
                if lacking and self._leave_to(lacking, pair, change):
                    continue
                certain = certain and not lacking
            self._enroll(undone, pair, moment, owned=change.owned, is_certain=certain)
        self._changes[f"undo:{name}"] = moment, undone

    def _count_or_not(self, name: str) -> None:
        """Let a snapshot count no more after its undo, and count again after the undo of that."""
        base = name.rpartition(":")[2]
        for source, target in (
            (self._snapshots, self._undone_snapshots),
            (self._undone_snapshots, self._snapshots),
        ):
            if base in source:
                target[base] = source.pop(base)
                return

    def _lacking(self, pair: Pair, moment: Moment) -> str | None:
        """Return the last snapshot that counts, if it is later than a moment and lacks a pair."""
        last = max(self._snapshots, key=lambda name: self._changes[name][0], default=None)
        is_later = last is not None and self._changes[last][0] > moment
        return last if last and is_later and pair not in self._snapshots[last] else None

    def _leave_to(self, snapshot: str, pair: Pair, change: Change) -> bool:
        """Note that a snapshot would have dropped a pair that an undo enrolls again.

        Return whether that is certain. What the undo of the snapshot does to it, never is.
        """
        at, changes = self._changes[snapshot]
        is_certain = change.is_certain and bool(change.owned)
        self._asks[pair].append((at, is_certain))
        changes.setdefault(pair, Change(Action.DROP, change.owned, is_certain=False))
        return is_certain

    def unsettle(self, name: str, pair: Pair) -> None:
        """Note that a batch and another request about a pair were decided in an unknown order."""
        state, (_, changes) = self.states[pair], self._changes[name]
        self.states[pair] = state._replace(owned=None)
        change = changes.get(pair, Change(Action.ENROLL, None, is_certain=False))
        changes[pair] = change._replace(owned=None, is_certain=False)

    def _ask(
        self,
        moment: Moment,
        enrolled: Iterable[Pair],
        dropped: Iterable[Pair],
        *,
        owned: bool,
        is_certain: bool = True,
    ) -> dict[Pair, Change]:
        changes: dict[Pair, Change] = {}
        for pair in enrolled:
            self._enroll(changes, pair, moment, owned=owned, is_certain=is_certain)
        for pair in dropped:
            self._drop(changes, pair, moment, is_certain=is_certain)
        return changes

    def _enroll(
        self,
        changes: dict[Pair, Change],
        pair: Pair,
        moment: Moment,
        *,
        owned: bool | None,
        is_certain: bool,
    ) -> None:
        before, is_certain, is_late = self._arrive(pair, moment, is_certain=is_certain)
        if is_late or before.enrolled:
            return
        is_new = before.enrolled is False
        owner = owned if is_new or before.owned == owned else None
        self.states[pair] = State(True if is_certain else None, owner)
        changes[pair] = Change(Action.ENROLL, None, is_certain and is_new)

    def _drop(
        self, changes: dict[Pair, Change], pair: Pair, moment: Moment, *, is_certain: bool
    ) -> None:
        before, is_certain, is_late = self._arrive(pair, moment, is_certain=is_certain)
        if is_late or before.enrolled is False:
            return
        self.states[pair] = State() if is_certain else State(None, before.owned)
        is_known = is_certain and before.enrolled is True
        changes[pair] = Change(Action.DROP, before.owned, is_known)

    def _arrive(self, pair: Pair, moment: Moment, *, is_certain: bool) -> tuple[State, bool, bool]:
        """Note a request; return what it finds, if it certainly counts, and if it is late."""
        later = [certain for at, certain in self._asks[pair] if at > moment]
        self._asks[pair].append((moment, is_certain))
        return self.states[pair], is_certain and not later, any(later)
