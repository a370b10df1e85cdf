"""Copy what a chunk of enrollments names into the temporary tables of its plan, where it matters.

Most of a file repeats the last one. Requests that only confirm enrollments are compared with the
real tables, and nothing is copied for them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.schemas import Kind
from worker.batches.clean import decide_by_shortcut
from worker.batches.counts import Poison
from worker.data_sets.values import Owner
from worker.enrollment.confirming import LookUp, WholeStudents, find_confirming
from worker.enrollment.shortcuts import ShortcutResult
from worker.enrollment.values import Times
from worker.models import Course, Pair, Student
from worker.plans.temporary.names import Named, Scan, names_in
from worker.plans.temporary.repository import RealRows, Since


class Decided(NamedTuple):
    """The requests of a chunk that were decided at once."""

    pairs: Sequence[Pair]
    """The enrollments that they name."""
    others: Sequence[int] | None
    """The positions of the other requests in the chunk; None for all."""
    whole: WholeStudents = WholeStudents()
    """Students of whom everything is named."""


_NOTHING = Decided((), None)


class Filling:
    """Decides the clean requests of a chunk, after what it names was copied as far as it matters.

    The methods raise DBAPIError.
    """

    def __init__(self, rows: RealRows, scanned: Scan, since: Since) -> None:
        self._rows = rows
        self._may_drop = scanned.may_drop
        self._since = since
        self._decided: Decided | None = None
        self._ahead: LookUp | None = None

    def expect(self, ahead: LookUp | None) -> None:
        """Use what was looked up for the chunk that is decided next, if it was."""
        self._ahead = ahead

    def take_decided(self, chunk: Chunk) -> Decided:
        """Return what was decided at once of the chunk that was just decided.

        What a chunk names is copied now if nothing of it had to be decided.
        """
        decided, self._decided = self._decided, None
        if decided is None:
            self._copy(chunk, names_in(Kind.ENROLLMENTS, chunk))
        return decided or _NOTHING

    def decide(
        self,
        connection: Connection,
        chunk: Chunk,
        poison: Poison,
        times: Times,
        derives: bool,  # noqa: FBT001 - a DecideClean
        owner: Owner | None,
    ) -> ShortcutResult:
        """Do what `worker.batches.clean.decide_by_shortcut` does, with as few copies as possible.

        The requests that are left to the rulebook, or all of them, find what they name copied.
        """
        ahead, self._ahead = self._ahead, None
        found = None if self._may_drop else find_confirming(connection, chunk, times, owner, ahead)
        if found is not None:
            result = found.result
            self._copy(chunk, names_in(Kind.ENROLLMENTS, chunk, result.rest))
        else:
            self._copy(chunk, names_in(Kind.ENROLLMENTS, chunk))
            result = decide_by_shortcut(connection, chunk, poison, times, derives, owner)
        whole = WholeStudents() if found is None else found.whole
        self._decided = Decided(result.pairs, result.rest, whole)
        return result

    def _copy(self, chunk: Chunk, named: Named) -> None:
        """Copy what these requests are decided by."""
        self._rows.copy_roster(Student, named.students)
        self._rows.copy_roster(Course, named.courses)
        self._rows.copy_of_students(named.students, self._since, with_results=self._may_drop)
        self._rows.copy_results(named.request_ids, chunk.batch_id, chunk.number)
