"""Stage, make, hold and apply plans in memory, as workers do, but each step at once."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from producer.contract.batches import BatchState, BatchStatus, Books
from producer.contract.chunks import Chunk, line_request_id
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanPurpose, PlanRequest
from producer.contract.plans import (
    FINAL_STATES,
    UNKNOWN_PLAN,
    AbsentRows,
    Decision,
    DecisionMessage,
    PlannedBatch,
    PlannedDrop,
    PlannedDropsPage,
    PlanState,
    PlanStatus,
)
from producer.contract.printable import shell_argument
from producer.schemas import Kind, StudentEnrollmentRequest
from producer.testing.absence import (
    NOTHING_ABSENT,
    Absence,
    Named,
    fate_of,
    find_absence,
    named_by,
    reasons_to_hold,
    swept_rows,
)
from producer.testing.data_sets import Snapshot
from producer.testing.intervals import Pair
from producer.testing.reading import names_of_course
from producer.testing.results import Incoming, Times
from producer.testing.world import World

ABSENT_REASON: Final = "not in the snapshot"
"""The reason of a drop of an enrollment that a snapshot does not name."""

_STATES: Final[Mapping[PlanState, BatchState]] = {
    PlanState.STAGED: BatchState.STAGED,
    PlanState.PLANNED: BatchState.PLANNED,
    PlanState.HELD: BatchState.HELD,
    PlanState.DISCARDED: BatchState.DISCARDED,
}
"""The state of the batches of a plan of which nothing is applied."""


@dataclass(frozen=True)
class StagedChunk:
    """A chunk that is stored instead of applied, and what its message says of it."""

    chunk: Chunk
    fingerprint: int
    times: Times
    origin: BatchOrigin


@dataclass
class _Member:
    kind: Kind
    chunks: dict[int, StagedChunk] = field(default_factory=dict)
    fingerprints: dict[int, int] = field(default_factory=dict)
    last: int | None = None
    conflicts: int = 0

    @property
    def is_complete(self) -> bool:
        return self.last is not None and len(self.fingerprints) == self.last + 1


@dataclass
class _Plan:
    request: PlanRequest
    members: dict[str, _Member]
    status: PlanStatus
    absence: Absence = NOTHING_ABSENT
    outcomes: dict[Pair, str | None] = field(default_factory=dict)

    def staged(self) -> Iterator[tuple[Kind, StagedChunk]]:
        """Yield the chunks of all members, in the order in which they are applied."""
        for member in self.members.values():
            for _, staged in sorted(member.chunks.items()):
                yield member.kind, staged

    def change(self, **fields: Any) -> None:
        self.status = self.status.model_copy(update=fields)


class Plans:
    """All plans of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plans: dict[str, _Plan] = {}
        self._plan_of: dict[str, _Plan] = {}
        """The plan of each member, by batch id."""

    # --- staging --------------------------------------------------------------------------------

    def stage(self, kind: Kind, staged: StagedChunk) -> None:
        """Store a chunk; once all chunks of all members are there, make the plan."""
        chunk = staged.chunk
        request = chunk.plan
        if request is None:
            raise ValueError("the chunk belongs to no plan")
        plan = self._plan_of.get(chunk.batch_id) or self._open(request, staged)
        member = plan.members.get(chunk.batch_id)
        ends_before = member and member.last is not None and chunk.number > member.last
        if member is None or member.kind is not kind or plan.request != request or ends_before:
            if member is not None:
                member.conflicts += 1
            return
        earlier = member.fingerprints.setdefault(chunk.number, staged.fingerprint)
        member.conflicts += earlier != staged.fingerprint
        if earlier != staged.fingerprint or plan.status.state is not PlanState.STAGED:
            return
        member.chunks[chunk.number] = staged
        member.last = chunk.number if chunk.last else member.last
        data_set = chunk.data_set or plan.status.data_set
        plan.change(data_set=data_set, submitted_at=staged.times.moment)
        self._show(plan)
        if all(member.is_complete for member in plan.members.values()):
            self._make(plan, staged.times)

    def _open(self, request: PlanRequest, staged: StagedChunk) -> _Plan:
        status = PlanStatus(
            plan_id=request.id,
            state=PlanState.STAGED,
            purpose=request.purpose,
            snapshot=request.snapshot,
            file_name=staged.origin.file_name,
            submitter=staged.origin.submitter,
            batches=tuple(PlannedBatch(batch_id=m.batch_id, kind=m.kind) for m in request.members),
        )
        members = {member.batch_id: _Member(member.kind) for member in request.members}
        plan = self._plans.setdefault(request.id, _Plan(request, members, status))
        for batch_id in plan.members:
            self._plan_of[batch_id] = plan
        return plan

    def _show(self, plan: _Plan) -> None:
        """Let the batches of a plan of which nothing is applied have the state of the plan."""
        for batch_id, member in plan.members.items():
            self._world.batches.planned.pop(batch_id, None)
            if member.chunks and (state := _STATES.get(plan.status.state)) is not None:
                shown = _status_of(plan, batch_id, member, state)
                self._world.batches.planned[batch_id] = shown

    # --- making and applying --------------------------------------------------------------------

    def _make(self, plan: _Plan, times: Times) -> None:
        request, data_set = plan.request, plan.status.data_set
        if request.snapshot and data_set not in self._world.data_sets.created:
            self._discard(
                plan,
                times,
                f"The data set {data_set} has not been created for snapshots. Create it:"
                f" enroll data-sets create {shell_argument(str(data_set))}",
            )
            return
        before = self._world.data_sets.owned_by(data_set) if data_set else set()
        trial = self._world.copy()
        batches = tuple(_apply_all(trial, plan))
        for own in plan.members:
            refused = trial.batches.refused(own, (0, 0), 2**31)
            self._world.batches.planned_refusals[own] = refused
        absence, named = NOTHING_ABSENT, Named(set(), set(), frozenset())
        if request.snapshot and data_set is not None:
            named = _named(trial, plan)
            absence = find_absence(trial, data_set, _moment_of(plan), named, before)
        owners = self._world.data_sets
        not_owned = owners.not_owned(named.pairs)
        others = owners.owners_of_new(data_set or "", named.pairs)
        plan.absence = absence
        plan.outcomes = dict.fromkeys(absence.drops)
        plan.change(
            batches=batches,
            owned_before=absence.owned_before,
            absent=absence.rows,
            courses=absence.courses,
            planned_at=times.now,
        )
        report = plan.status.model_dump_json() + repr(absence.drops)
        reasons = tuple(reasons_to_hold(request, absence, named, batches[-1], not_owned, others))
        digest = hashlib.sha256(report.encode()).hexdigest()
        plan.change(digest=digest, reasons=reasons)
        if request.purpose is PlanPurpose.REPORT:
            plan.change(state=PlanState.PLANNED)
        elif reasons:
            advice = "It waits for a decision: approve or discard it."
            plan.change(state=PlanState.HELD, advice=advice)
        else:
            self._apply(plan, times)
        self._show(plan)

    def _discard(self, plan: _Plan, times: Times, advice: str) -> None:
        plan.change(state=PlanState.DISCARDED, advice=advice, decided_at=times.now)
        self._show(plan)

    def _apply(self, plan: _Plan, times: Times) -> None:
        world, data_set = self._world, plan.status.data_set
        plan.change(state=PlanState.APPLYING, advice=None)
        self._show(plan)
        moment = _moment_of(plan)
        if plan.request.snapshot and data_set is not None:
            self._discard_older(data_set, moment, times)
            world.data_sets.sweep(data_set, moment)
        batches = tuple(_apply_all(world, plan))
        applied = None
        if plan.request.snapshot and data_set is not None:
            applied = self._sweep(plan, data_set, moment, times)
        differences = [] if batches == plan.status.batches else ["The counts are not as planned."]
        if applied not in (None, plan.status.absent):
            differences.append("Newer requests changed what was to be dropped.")
        dropped = Counter(course for (_, course), end in plan.outcomes.items() if end == "dropped")
        plan.change(
            state=PlanState.DONE,
            applied=applied,
            courses=tuple(
                course.model_copy(update={"dropped": dropped[course.course_id]})
                for course in plan.status.courses
            ),
            differences=tuple(differences),
            finished_at=times.now,
        )

    def _discard_older(self, data_set: str, moment: Any, times: Times) -> None:
        for other in self._plans.values():
            is_of_it = other.status.data_set == data_set and other.request.snapshot
            if is_of_it and other.status.state is PlanState.HELD and _moment_of(other) < moment:
                self._discard(other, times, "A newer snapshot of its data set was applied.")

    def _sweep(self, plan: _Plan, data_set: str, moment: Any, times: Times) -> AbsentRows:
        """Drop or pass on what was planned and nothing else, and adopt; return what was done."""
        world = self._world
        named, adopted = _named(world, plan), set[Pair]()
        if plan.request.adopt:
            intervals = world.enrollments.intervals
            adopted = named.pairs & intervals.open.keys() - intervals.owners.keys()
            world.data_sets.change_owner(adopted, None, data_set)
        planned = plan.absence
        fates = {pair: fate_of(world, data_set, moment, pair) for pair in planned.listed}
        for pair in planned.passed_on:
            fates[pair] = "kept_newer" if fates[pair] == "dropped" else fates[pair]
        own = world.data_sets.owned_by(data_set)
        passed_on = [pair for pair, fate in fates.items() if fate == "passed_on" and pair in own]
        for pair in passed_on:
            if (heir := world.data_sets.heir_of(pair)) is not None:
                world.data_sets.pass_on(pair, heir)
        drops = sorted(pair for pair, fate in fates.items() if fate == "dropped")
        for position, pair in enumerate(drops):
            _drop(world, plan, pair, position, Times(moment, times.now))
        plan.outcomes = {pair: fates[pair] for pair in plan.outcomes}
        world.data_sets.forget_notes_of(data_set, moment, named.pairs)
        snapshot = Snapshot(data_set, moment, frozenset(adopted), frozenset(passed_on))
        world.data_sets.snapshots[plan.request.id] = snapshot
        return swept_rows(planned.rows, fates.values())

    # --- what is asked and decided --------------------------------------------------------------

    def status(self, plan_id: str) -> PlanStatus:
        """Return the state and the report of a plan."""
        plan = self._plans.get(plan_id)
        if plan is None:
            return PlanStatus(plan_id=plan_id, state=PlanState.UNKNOWN, advice=UNKNOWN_PLAN)
        return plan.status.model_copy(update=self._world.batches.undone(plan_id))

    def drops(self, plan_id: str, after: Pair | None, limit: int) -> PlannedDropsPage:
        """Return a page of the planned drops of a plan."""
        plan = self._plans.get(plan_id)
        if plan is None:
            return PlannedDropsPage(state=PlanState.UNKNOWN)
        outcomes = sorted(plan.outcomes.items())
        following = [entry for entry in outcomes if after is None or entry[0] > after]
        page = following[:limit]
        drops = tuple(self._planned_drop(pair, outcome) for pair, outcome in page)
        end = page[-1][0] if len(following) > limit else None
        status = plan.status
        return PlannedDropsPage(
            state=status.state, planned_at=status.planned_at, drops=drops, next=end
        )

    def _planned_drop(self, pair: Pair, outcome: str | None) -> PlannedDrop:
        student = self._world.enrollments.students.fields_of(pair[0])
        course = names_of_course(self._world.enrollments, pair[1])
        return PlannedDrop(
            student_id=pair[0],
            student_sis_id=student["sis_id"],
            student_name=student.get("name"),
            course_id=pair[1],
            course_sis_id=course.sis_id,
            course_title=course.title,
            outcome=outcome,
        )

    def fingerprints(self, batch_id: str) -> Mapping[int, int]:
        """Return the fingerprints of the staged chunks of a batch, by number."""
        plan = self._plan_of.get(batch_id)
        return plan.members[batch_id].fingerprints if plan else {}

    def kind_of(self, batch_id: str) -> Kind | None:
        """Return the kind of a member of a plan; None for any other batch."""
        plan = self._plan_of.get(batch_id)
        return plan.members[batch_id].kind if plan else None

    def decide(self, decision: DecisionMessage, times: Times) -> PlanStatus:
        """Approve or discard a plan that is held and has this digest; return its status."""
        plan = self._plans.get(decision.plan_id)
        if plan is None:
            return self.status(decision.plan_id)
        is_held = plan.status.state is PlanState.HELD and plan.status.digest == decision.digest
        if is_held and decision.decision is Decision.DISCARD:
            self._discard(plan, times, "It was discarded by a decision. Nothing was applied.")
        elif is_held:
            plan.change(decided_at=times.now)
            self._apply(plan, times)
            self._show(plan)
        return plan.status


def _apply_all(world: World, plan: _Plan) -> Iterator[PlannedBatch]:
    """Apply the chunks of a plan to a world; yield what each batch has done."""
    for kind, staged in plan.staged():
        world.batches.apply(kind, staged.chunk, staged.fingerprint, staged.times, staged.origin)
    for batch_id, member in plan.members.items():
        status = world.batches.status(batch_id, refusals=True)
        yield PlannedBatch(
            batch_id=batch_id,
            kind=member.kind,
            books=status.books,
            requests=status.requests,
            requests_rejected=status.requests_rejected,
            refusals=status.refusals,
        )


def _named(world: World, plan: _Plan) -> Named:
    """Return what the enrollments of a plan name, once they are applied to a world."""
    staged = [entry.chunk for kind, entry in plan.staged() if kind is Kind.ENROLLMENTS]
    ids = [own for own, member in plan.members.items() if member.kind is Kind.ENROLLMENTS]
    refused = [r for own in ids for r in world.batches.refused(own, (0, 0), 2**31)]
    return named_by(world, staged, {refusal.line for refusal in refused})


def _moment_of(plan: _Plan) -> Any:
    moments = [staged.times.moment for kind, staged in plan.staged() if kind is Kind.ENROLLMENTS]
    return moments[0] if moments else plan.status.submitted_at


def _drop(world: World, plan: _Plan, pair: Pair, position: int, times: Times) -> None:
    batch_id = plan.request.id
    record = {"student_id": pair[0], "drop_course_ids": [pair[1]], "reason": ABSENT_REASON}
    number = (plan.members[batch_id].last or 0) + 1
    request = StudentEnrollmentRequest.model_validate(record)
    own_id = line_request_id(batch_id, number, position)
    world.enrollments.decide([Incoming(own_id, record, request)], batch_id, times)


def _status_of(plan: _Plan, batch_id: str, member: _Member, state: BatchState) -> BatchStatus:
    tallies = [staged.chunk.tally() for staged in member.chunks.values()]
    first = next(iter(member.chunks.values()))
    rows = sum(tally.rows for tally in tallies)
    return BatchStatus(
        batch_id=batch_id,
        state=state,
        advice=plan.status.advice if plan.status.state in (PlanState.HELD, *FINAL_STATES) else None,
        kind=member.kind,
        file_name=first.origin.file_name,
        submitter=first.origin.submitter,
        data_set=first.chunk.data_set,
        plan_id=plan.request.id,
        columns=first.chunk.columns,
        form=first.chunk.form,
        books=Books(received=rows, not_applied=rows),
        requests=sum(tally.requests for tally in tallies),
        chunks=None if member.last is None else member.last + 1,
        chunks_missing=max(member.chunks) + 1 - len(member.chunks),
        conflicts=member.conflicts,
        submitted_at=first.times.moment,
    )
