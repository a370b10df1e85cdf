"""Decide what requests do to pairs, by their moments: the latest one wins. Pure, no SQL.

The pairs of one transaction are decided here one action after another, in the order of their
moments, as if each had been a transaction of its own.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from worker.intervals.values import PairState
from worker.models import Pair


class Outcome(StrEnum):
    """What a request did to a pair."""

    ENROLLED = "enrolled"
    ALREADY_ENROLLED = "already enrolled"
    DROPPED = "dropped"
    NOT_ENROLLED = "not enrolled"
    SUPERSEDED = "superseded"
    """Nothing: a later request asks for the opposite."""


class Verdict(NamedTuple):
    """What a request did to a pair; if it was superseded, the moment of the request that won."""

    outcome: Outcome
    won_at: datetime | None = None


class Interval(NamedTuple):
    """A pair, and the moments at which an enrollment ended and began.

    `began` is None if the pair was not enrolled when it was dropped.
    """

    pair: Pair
    ended: datetime
    began: datetime | None


_NOTHING_KNOWN = PairState(None, None, None)


class Register:
    """The pairs of one transaction: what is stored about them, and what is to be changed.

    A pair without a state counts as not enrolled and never dropped. If it is enrolled after all,
    its row is not written a second time, and the database says so.
    """

    def __init__(self, states: Mapping[Pair, PairState]) -> None:
        self._stored = states
        self._open: dict[Pair, datetime | None] = {}
        """When the open enrollment of a pair began, as far as this transaction has changed it."""
        self._confirmed: dict[Pair, datetime] = {}
        self._ended: dict[Pair, datetime] = {}
        self.rows: dict[Pair, datetime] = {}
        """The rows to write, each with the moment of the request that opens it."""
        self.endings: dict[Pair, Interval] = {}
        """The enrollments to end whose rows are stored."""
        self.passed: list[Interval] = []
        """Enrollments that begin and end within the transaction."""
        self.notes: dict[Pair, Interval] = {}
        """The drops to keep of pairs that were not enrolled: the latest one of each."""

    def enroll(self, pair: Pair, moment: datetime, swept_at: datetime | None = None) -> Verdict:
        """Enroll a pair as of a moment; nothing is opened that counts earlier than `swept_at`."""
        if self._is_open(pair):
            self._confirm(pair, moment)
            return Verdict(Outcome.ALREADY_ENROLLED)
        won_at = max((at for at in (self._ended_at(pair), swept_at) if at), default=moment)
        if won_at > moment:
            return Verdict(Outcome.SUPERSEDED, won_at)
        self._open[pair] = self.rows[pair] = moment
        self._confirm(pair, moment)
        return Verdict(Outcome.ENROLLED)

    def drop(self, pair: Pair, moment: datetime) -> Verdict:
        """Drop a pair as of a moment."""
        if self._is_open(pair):
            confirmed = self._confirmed_at(pair)
            if confirmed is not None and confirmed >= moment:
                return Verdict(Outcome.SUPERSEDED, confirmed)
            self._end(pair, moment)
            return Verdict(Outcome.DROPPED)
        ended = self._ended_at(pair)
        if ended is None or ended < moment:
            self._ended[pair] = moment
            self.notes[pair] = Interval(pair, moment, None)
        return Verdict(Outcome.NOT_ENROLLED)

    def _end(self, pair: Pair, moment: datetime) -> None:
        began = self.rows.pop(pair, None)
        if began is None:
            stored = self._stored.get(pair, _NOTHING_KNOWN)
            self.endings[pair] = Interval(pair, moment, stored.enrolled_at)
        else:
            self.passed.append(Interval(pair, moment, began))
        self._open[pair] = None
        self._ended[pair] = moment

    def _is_open(self, pair: Pair) -> bool:
        if pair in self._open:
            return self._open[pair] is not None
        return self._stored.get(pair, _NOTHING_KNOWN).enrolled_at is not None

    def _confirm(self, pair: Pair, moment: datetime) -> None:
        confirmed = self._confirmed_at(pair)
        self._confirmed[pair] = moment if confirmed is None else max(moment, confirmed)

    def _confirmed_at(self, pair: Pair) -> datetime | None:
        own = self._confirmed.get(pair)
        return self._stored.get(pair, _NOTHING_KNOWN).confirmed_at if own is None else own

    def _ended_at(self, pair: Pair) -> datetime | None:
        own = self._ended.get(pair)
        return self._stored.get(pair, _NOTHING_KNOWN).ended_at if own is None else own
