"""Submit the snapshots and dry runs of a feed, decide about them, and check their reports."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError

from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.errors import BatchCannotFinish, BatchNotDone
from producer.schemas import Action, Kind, RequestState
from support.faults.feed_model import Pair
from support.faults.feed_work import DATA_SET, FeedWork, request_of
from worker.undo.start import undo_id_of
from worker.undo.values import CannotUndo


@dataclass
class Night:
    """A snapshot to submit, and what happens to it on its way."""

    name: str
    wanted: set[Pair]
    is_report: bool
    decision: Decision
    is_undone: bool
    """Whether it is undone as soon as possible, whatever its state."""
    by_hand: dict[str, tuple[Action, Pair]] = field(default_factory=dict)
    """The single requests that are submitted while it is on its way."""
    moments: dict[str, datetime] = field(default_factory=dict)
    """When the single requests count."""
    report: PlanStatus | None = None
    """That of a dry run of the same file, after which nothing else happened."""


class Nights:
    """Submits a snapshot, or a dry run of one, each night; `pairs` are those that a file names."""

    def __init__(self, work: FeedWork, pairs: Sequence[Pair]) -> None:
        self._work = work
        self._pairs = pairs
        self._before: Night | None = None
        """The last night, if it was a dry run whose file comes again."""
        self.nights = self.held = 0

    def submit(self) -> bool:
        """Submit a snapshot, decide about it if it is held; return whether it came to an end."""
        self.nights += 1
        night = self._next_night()
        was_held: set[bool] = set()
        statuses: list[PlanStatus] = []

        def has_ended() -> bool:
            status = self._work.client.plan(night.name)
            was_held.add(status.state is PlanState.HELD)
            statuses[:] = [status]
            return self._go_on_with(night, status)

        if not (
            self._work.persist(has_ended) and self._work.persist(lambda: self._are_decided(night))
        ):
            return False
        self.held += True in was_held
        self._note(night, statuses[0])
        return self._before is None or self.submit()

    def _next_night(self) -> Night:
        chance, before = self._work.chance, self._before
        self._before = None
        if before is not None:  # The very file that was planned before.
            name = self._work.next_name()
            return replace(before, name=name, is_report=False, decision=Decision.APPROVE)
        is_report = chance.random() < 0.3
        night = Night(
            self._work.next_name(),
            self._wanted(),
            is_report,
            chance.choice(list(Decision)),
            is_undone=not is_report and chance.random() < 0.2,
        )
        for number in range(chance.choice([0, 0, 1, 3])):
            change = (chance.choice(list(Action)), chance.choice(self._pairs))
            if change[1] not in [pair for _, pair in night.by_hand.values()]:
                night.by_hand[f"{night.name}-by-hand-{number}"] = change
        return night

    def _wanted(self) -> set[Pair]:
        """Return what the file of a night names: a little or much differs from the last one."""
        chance = self._work.chance
        lost = chance.choice([0, 0, 0.02, 0.02, 0.5, 0.9])
        enrolled = sorted(self._work.model.must() & set(self._pairs))
        kept = {pair for pair in enrolled if chance.random() >= lost}
        return kept | set(chance.sample(self._pairs, chance.randrange(10))) or {self._pairs[0]}

    def _go_on_with(self, night: Night, status: PlanStatus) -> bool:
        """Do what comes next for a snapshot; return whether nothing does."""
        if status.state is PlanState.DONE:
            return not night.is_undone or self._work.undo(night.name)
        if status.state in (PlanState.PLANNED, PlanState.DISCARDED):
            return True
        if status.state in (PlanState.UNKNOWN, PlanState.STAGED):
            # Repeated: a fault may have lost a part of it.
            self._submit_night(night)
            for name, change in night.by_hand.items():
                self._work.client.submit(request_of(name, *change))
        if night.is_undone and self._work.whim.random() < 0.5:
            with contextlib.suppress(CannotUndo):
                self._work.undo(night.name)
        elif status.state is PlanState.HELD:
            self._work.client.decide(night.name, night.decision, status.digest or "")
        with contextlib.suppress(BatchNotDone, BatchCannotFinish):
            self._work.client.wait(night.name, timeout=2)
        return False

    def _submit_night(self, night: Night) -> None:
        plan = PlanRequest(
            id=night.name,
            members=(PlanMember(batch_id=night.name, kind=Kind.ENROLLMENTS),),
            purpose=PlanPurpose.REPORT if night.is_report else PlanPurpose.APPLY,
            snapshot=True,
        )
        self._work.client.submit_batch(
            Kind.ENROLLMENTS,
            [{"student_id": s, "course_ids": [c]} for s, c in sorted(night.wanted)],
            batch_id=night.name,
            plan=plan,
            data_set=DATA_SET,
        )

    def _are_decided(self, night: Night) -> bool:
        """Return whether all single requests are decided; submit those again that were lost."""
        for status in self._work.client.statuses(list(night.by_hand)):
            name = status.request_id
            if status.result is not None and status.result.moment is not None:
                night.moments[name] = status.result.moment
            elif status.state is RequestState.UNKNOWN:
                self._work.client.submit(request_of(name, *night.by_hand[name]))
        return night.moments.keys() == night.by_hand.keys()

    def _note(self, night: Night, status: PlanStatus) -> None:
        """Let the model do what was done, in the order of the moments."""
        self._check_report(night, status)
        moments = dict(night.moments)
        if status.state is PlanState.DONE:
            assert status.submitted_at is not None
            moments[night.name] = status.submitted_at
        model = self._work.model
        for name in sorted(moments, key=lambda name: moments[name]):
            number = self._work.next_number()
            if name == night.name:
                model.snapshot(name, number, night.wanted)
            else:
                action, pair = night.by_hand[name]
                both = ({pair}, set[Pair]())[:: 1 if action is Action.ENROLL else -1]
                model.batch(name, number, *both, owned=False)
        if status.state is not PlanState.DONE:
            return
        for _, pair in night.by_hand.values():
            model.unsettle(night.name, pair)
        if night.is_undone:
            model.undo(night.name)
        self._work.to_undo.append(undo_id_of(night.name) if night.is_undone else night.name)

    def _check_report(self, night: Night, status: PlanStatus) -> None:
        """Compare the report of a plan with the model, and with its dry run."""
        is_made = status.state in (PlanState.PLANNED, PlanState.DONE)
        if status.state is PlanState.PLANNED and not night.is_report:
            self._work.wrong(f"the snapshot {night.name} ended as a dry run")
        if not is_made or night.by_hand:
            return
        must, may = self._work.model.absent(night.wanted)
        if not len(must) <= status.absent.dropped <= len(may):
            self._work.wrong(
                f"{night.name} plans {status.absent.dropped} drops instead of {len(must)} to"
                f" {len(may)}"
            )
        if night.is_report:
            self._after_dry_run(night, status)
            return
        if status.differences or status.applied != status.absent:
            self._work.wrong(f"{night.name} did not do what was planned: {status}")
        dry_run = night.report
        if dry_run and (_books(dry_run), dry_run.absent) != (_books(status), status.applied):
            self._work.wrong(f"the dry run of {night.name} was {dry_run}, and its run {status}")

    def _after_dry_run(self, night: Night, status: PlanStatus) -> None:
        with contextlib.suppress(CannotUndo, DBAPIError):
            if self._work.undo(night.name):
                self._work.wrong(f"the dry run {night.name} was undone")
        if self._work.chance.random() < 0.5:
            night.report = status
            self._before = night


def _books(status: PlanStatus) -> list[Any]:
    return [batch.books for batch in status.batches]
