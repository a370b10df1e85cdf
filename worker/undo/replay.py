"""Replay the requests and snapshots that count, to see who has a pair enrolled. Pure, no SQL."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from producer.schemas import Action
from worker.undo.changes import Ended


class Fact(NamedTuple):
    """A request about a pair, or a snapshot: what counts from a moment on."""

    moment: datetime
    action: Action | None
    """None for a snapshot: it drops what its data set owns and does not name."""
    data_set: int | None


class Known(NamedTuple):
    """What is stored about a pair."""

    enrolled_at: datetime | None
    """When its open enrollment began; None if it is not enrolled."""
    ended_at: datetime | None
    past: Sequence[Ended]
    """Its enrollments that have ended."""
    restored_at: Collection[datetime] = ()
    """The moments from which undos have enrolled it again."""
    adopted_at: Collection[datetime] = ()
    """The moments of snapshots that adopted it."""
    passed_on_at: Collection[datetime] = ()
    """The moments of snapshots that passed it on to another data set."""

    @property
    def changed_at(self) -> datetime | None:
        """Return when the pair was enrolled or dropped last."""
        return max((at for at in (self.enrolled_at, self.ended_at) if at), default=None)

    def is_kept_at(self, moment: datetime) -> bool:
        """Return whether a snapshot of this moment has found the pair enrolled, and left it."""
        if moment in self.passed_on_at:
            return False
        periods = [(each.enrolled_at, each.ended_at) for each in self.past]
        if self.enrolled_at is not None:
            periods.append((self.enrolled_at, datetime.max.replace(tzinfo=UTC)))
        return any(
            began <= moment < ended and began not in self.restored_at for began, ended in periods
        )


class Passage(NamedTuple):
    """A snapshot gave an enrollment to another owner."""

    moment: datetime
    before: int | None
    """The data set that had owned it; None if it had no owner."""
    counts: bool
    """False if the snapshot was undone."""


def owner_without(
    passages: Sequence[Passage], ended: Ended, named_at: Collection[datetime]
) -> Ended:
    """Return an enrollment that has ended, with the owner that it has by the snapshots that count.

    `passages` are those of its pair, the last one first. What a request that counts has named
    since, at one of the moments `named_at`, belonged to whom it belonged then.
    """
    owner = ended.data_set
    for moment, before, counts in passages:
        if not ended.enrolled_at <= moment < ended.ended_at:
            continue
        if counts or any(moment < at < ended.ended_at for at in named_at):
            break
        owner = before
    return ended._replace(data_set=owner)


class WantedState(NamedTuple):
    """Whether a pair should be enrolled, and by which data set."""

    is_enrolled: bool
    owner: int | None = None
    lacked_at: datetime | None = None
    """The moment of the snapshot that ended the enrollment last."""


def replay(first: Fact, facts: Sequence[Fact], known: Known) -> WantedState:
    """Return the state of a pair that follows from the facts that count.

    `first` is the first change of the pair by a batch that does not count: what was there before it
    is the beginning. Earlier facts are contained in that.
    """
    is_enrolled = first.action is Action.DROP
    owner = _owner_before(first, known) if is_enrolled else None
    notes: dict[int, datetime] = {}
    named: dict[int | None, datetime] = {}
    lacked_at = None
    for moment, action, data_set in sorted(facts, key=_order):
        if moment < first.moment:
            continue
        if action is Action.DROP:
            is_enrolled, owner, notes = False, None, {}
        elif action is Action.ENROLL:
            named[data_set] = moment
            if not is_enrolled:
                is_enrolled, owner = True, data_set
            elif owner is None and moment in known.adopted_at:
                owner = data_set
            elif data_set is not None and owner not in (None, data_set):
                notes[data_set] = moment
        elif data_set is not None and named.get(data_set) != moment:
            notes.pop(data_set, None)
            if is_enrolled and owner == data_set and not known.is_kept_at(moment):
                owner = max(notes, key=lambda each: notes[each], default=None)
                is_enrolled = owner is not None
                notes.pop(owner or 0, None)
                lacked_at = lacked_at if is_enrolled else moment
    return WantedState(is_enrolled, owner, None if is_enrolled else lacked_at)


_KINDS = (Action.DROP, Action.ENROLL, None)
"""The order of what counts at one moment."""


def _order(fact: Fact) -> tuple[datetime, int]:
    return fact.moment, _KINDS.index(fact.action)


def _owner_before(first: Fact, known: Known) -> int | None:
    return next((each.data_set for each in known.past if each.ended_at == first.moment), None)
