"""Decide the state of a batch that is a member of a plan. Pure functions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from producer.contract.batches import BatchState
from producer.contract.chunks import Tally
from producer.contract.file_forms import FileForm
from producer.contract.marks import AgedMark, SubmissionMark
from producer.contract.plans import PlanState
from producer.contract.printable import shell_argument
from producer.schemas import Kind
from worker.batches.members.arrival import (
    advice_on_arrival,
    advice_on_missing,
    advice_on_waiting,
)
from worker.batches.state import DeadChunks, Standing

_BY_PLAN: Final = {
    PlanState.PLANNED: BatchState.PLANNED,
    PlanState.HELD: BatchState.HELD,
    PlanState.APPROVED: BatchState.QUEUED,
}
"""The state of a batch of which nothing is applied, by that of its plan."""


class Membership(NamedTuple):
    """A batch as a member of its plan."""

    member: Any
    """Its row, with the state of the plan."""
    members: Sequence[Any]
    """All members of the plan."""

    def standing(self, applied: Standing, dead: DeadChunks, now: datetime) -> Standing:
        """Return the state of the batch.

        `applied` is what its ledger alone would say.
        """
        state, detail = PlanState(self.member.state), self.member.detail
        if state is PlanState.STAGED:
            return self._staged(dead, now)
        if state in _BY_PLAN:
            advice = self._held() if state is PlanState.HELD else self._waiting() or detail
            return Standing(_BY_PLAN[state], advice)
        is_done = applied.state is BatchState.DONE
        if state is PlanState.DISCARDED and not is_done:
            return Standing(BatchState.DISCARDED, detail)
        is_ongoing = state in (PlanState.APPLYING, PlanState.SWEEPING)
        if is_ongoing and (not is_done or self._ends_with_plan()):
            has_begun = applied.state not in (BatchState.UNKNOWN, BatchState.QUEUED)
            return Standing(BatchState.RUNNING if has_begun else BatchState.QUEUED, detail)
        return applied

    def _ends_with_plan(self) -> bool:
        """Return whether the batch is not done before its plan is.

        Enrollments may be dropped because a snapshot does not name them. The batch that gives the
        plan its id stands for all of it.
        """
        member = self.member
        is_snapshot = member.kind == Kind.ENROLLMENTS and bool(member.request["snapshot"])
        return is_snapshot or member.batch_id == member.plan_id

    def _staged(self, dead: DeadChunks, now: datetime) -> Standing:
        missing = advice_on_missing(self.members, now)
        state = BatchState.STAGED if missing is None else BatchState.STALLED
        detail = self.member.detail
        waits = self._waiting() or (detail and f"The plan could not be made yet: {detail}")
        parts = (advice_on_arrival(self.members, [dead], now), waits)
        return Standing(state, " ".join(filter(None, parts)) or None)

    def _waiting(self) -> str | None:
        return advice_on_waiting(self.member.waits_for, self.member.data_set_name)

    def _held(self) -> str:
        word = shell_argument(self.member.plan_id)
        return (
            "Nothing is applied yet: its plan waits for a decision. See why and what it would"
            f" change with `enroll plan {word}`; then the operator approves or discards it"
            f" (`enroll approve {word}`, `enroll discard {word}`)."
        )

    def mark(self, own: AgedMark | None) -> AgedMark:
        """Return a mark with what was stored of the batch, and with what its own mark says."""
        member = self.member
        stored = SubmissionMark(
            kind=member.kind,
            tally=Tally(requests=member.requests, rows=member.rows),
            chunks=member.staged if member.chunks is None else member.chunks,
            complete=member.chunks is not None,
            moment=member.moment,
        )
        if own is None or member.chunks is not None or own.mark.chunks <= stored.chunks:
            return AgedMark(stored, 0.0)
        more = {"kind": stored.kind, "moment": stored.moment or own.mark.moment}
        return own._replace(mark=own.mark.model_copy(update=more))

    def fields(self, mark: AgedMark, *, with_files: bool) -> dict[str, Any]:
        """Return what only the plan knows of a batch, as fields of its status."""
        member = self.member
        shown: dict[str, Any] = {
            "plan_id": member.plan_id,
            "data_set": member.data_set_name if member.kind == Kind.ENROLLMENTS else None,
        }
        if member.file_name is not None:
            shown["file_name"] = member.file_name
        if member.submitter is not None:
            shown["submitter"] = member.submitter
        if member.state == PlanState.STAGED:
            shown["chunks_missing"] = max(0, mark.mark.chunks - member.staged)
        if with_files and member.columns is not None:
            shown["columns"] = tuple(member.columns)
        if with_files and member.form is not None:
            shown["form"] = FileForm.model_validate(member.form, extra="ignore")
        return shown
