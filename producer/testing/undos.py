"""Undo batches in memory: end what they opened, and open what they ended, as workers do."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from producer.contract.batches import BatchState, BatchStatus
from producer.contract.chunks import EnrollmentChunk, Tally
from producer.contract.headers import BatchOrigin
from producer.contract.undos import (
    BatchUndo,
    CourseUndo,
    LeftEnrollment,
    UndoneEnrollment,
    UndoState,
    advice_on_undone,
)
from producer.fields import MAX_STORED_ID, UNDO_PREFIX
from producer.schemas import Action, Kind, StudentEnrollmentRequest
from producer.testing.intervals import Pair
from producer.testing.ownership import Ownership, submitted_id
from producer.testing.reading import names_of_course
from producer.testing.results import Result, Times
from producer.testing.world import World

REASON: Final = "undone"
"""The reason of the drops of an undo."""

_STEP: Final = timedelta(microseconds=1)


class _Change(NamedTuple):
    """A change that a batch made to a pair."""

    moment: datetime
    action: Action


class _Reversal(NamedTuple):
    """What undoes all changes of a pair, and the data set that owned what is enrolled again."""

    pair: Pair
    action: Action
    moment: datetime
    owner: str | None


class Undos:
    """The undos of the batches of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def preview(self, batch_id: str, now: datetime) -> BatchUndo:
        """Return what the undo of a batch would change, and change nothing."""
        undo_id = UNDO_PREFIX + batch_id
        if self._world.batches.status(undo_id, refusals=False).state is BatchState.DONE:
            return _refused(batch_id, advice_on_undone(batch_id, undo_id))
        trial = self._world.copy()
        undo = Undos(trial).undo(batch_id, now)
        if undo.state is not UndoState.DONE:
            return undo
        results = _results_of(trial, undo_id)
        changes = [(pair, change.action) for pair, change in _changes_of(results)]
        return undo.model_copy(
            update={
                "state": UndoState.PLANNED,
                "courses": tuple(_courses(trial, changes)),
                "changes": tuple(_named(trial, *change) for change in changes[:100]),
            }
        )

    def undo(self, batch_id: str, now: datetime) -> BatchUndo:
        """Undo a batch that is done, and return what that did; a repeat does no harm."""
        world, undo_id = self._world, UNDO_PREFIX + batch_id
        batch = world.batches.status(batch_id, refusals=False)
        if batch.state is BatchState.UNKNOWN:
            advice = f"The batch {batch_id} is unknown: none of its chunks was applied."
            return _refused(batch_id, advice, UndoState.UNKNOWN)
        if (problem := _problem(batch)) is not None:
            return _refused(batch_id, problem)
        is_new = world.batches.status(undo_id, refusals=False).state is BatchState.UNKNOWN
        if is_new:
            self._apply(batch, undo_id, now)
        return BatchUndo(
            batch_id=batch_id,
            undo_id=undo_id,
            state=UndoState.DONE,
            advice=None if is_new else advice_on_undone(batch_id, undo_id),
            books=world.batches.status(undo_id, refusals=False).books,
            left=tuple(_left(world, undo_id))[:100],
        )

    def _apply(self, batch: BatchStatus, undo_id: str, now: datetime) -> None:
        world = self._world
        world.batches.stop(batch.batch_id)
        results = _results_of(world, batch.batch_id)
        reopened = self._reopened(submitted_id(undo_id))
        reversals = list(map(self._moved, self._reversals(results, reopened)))
        chunk = EnrollmentChunk.model_construct(
            batch_id=undo_id,
            number=0,
            before=Tally(),
            last=True,
            records=tuple(map(_request_of, reversals)),
        )
        times = Times((batch.submitted_at or now) + _STEP, now)
        origin = BatchOrigin(file_name=batch.file_name)
        world.batches.apply(Kind.ENROLLMENTS, chunk, 0, times, origin)
        opened = {pair for pair, change in _changes_of(_results_of(world, undo_id))}
        ownership = Ownership(world)
        for reversal in reversals:
            if reversal.pair in opened:
                world.data_sets.change_owner([reversal.pair], None, reversal.owner)
        for pair, changes in reopened.items():
            ownership.restore_reopened(undo_id, pair, changes[0].moment)
        ownership.renew_notes(opened | reopened.keys())
        named = {pair for result in results for pair in _pairs_of(result)}
        for pair in named:
            self._confirm(pair)
        ownership.restore(undo_id)

    def _moved(self, reversal: _Reversal) -> _Reversal:
        """Let a reversal count after later changes by batches that were undone since."""
        pair, moment = reversal.pair, reversal.moment
        changed_at = self._world.enrollments.intervals.changed_at(pair)
        if changed_at is None or changed_at < moment:
            return reversal
        if any(result.moment >= moment for result in self._counting(pair)):
            return reversal
        return reversal._replace(moment=changed_at + _STEP)

    def _confirm(self, pair: Pair) -> None:
        """Let the requests that still count be those that have named a pair."""
        enrolling = (
            result.moment
            for result in self._counting(pair)
            if any(c.key == pair[1] and c.action is Action.ENROLL for c in result.courses)
        )
        self._world.enrollments.intervals.confirm(pair, enrolling)

    def _counting(self, pair: Pair) -> Iterator[Result]:
        """Yield the results about a pair that were not superseded, of what was not undone."""
        for result in self._world.enrollments.results.values():
            if result.student != pair[0] or not self._world.batches.counts(result.batch_id):
                continue
            changes = [course.change for course in result.courses if course.key == pair[1]]
            if any(change.superseded_by is None for change in changes):
                yield result

    def _reopened(self, batch_id: str) -> dict[Pair, list[_Change]]:
        """Return what a batch did to pairs that it ended and opened again, if no later one did."""
        by_pair: dict[Pair, list[_Change]] = defaultdict(list)
        for pair, change in _changes_of(_results_of(self._world, batch_id)):
            by_pair[pair].append(change)
        return {
            pair: changes
            for pair, changes in by_pair.items()
            if changes[0].action is Action.DROP
            and changes[-1].action is Action.ENROLL
            and not self._is_changed_after(pair, changes[-1].moment)
        }

    def _is_changed_after(self, pair: Pair, moment: datetime) -> bool:
        later = [result for result in self._counting(pair) if result.moment > moment]
        return any(changed == pair for changed, _ in _changes_of(later))

    def _reversals(
        self, results: Sequence[Result], reopened: Collection[Pair]
    ) -> Iterator[_Reversal]:
        """Yield what undoes the changes of each pair, at the last moment of the batch for it.

        An undo confirmed those in `reopened`, and changed nothing: they are confirmed once more.
        """
        last = {pair: result.moment for result in results for pair in _pairs_of(result)}
        by_pair: dict[Pair, list[_Change]] = defaultdict(list)
        for pair, change in _changes_of(results):
            by_pair[pair].append(change)
        for pair in (last.keys() & reopened) - by_pair.keys():
            yield _Reversal(pair, Action.ENROLL, last[pair] + _STEP, None)
        for pair, changes in by_pair.items():
            intervals = self._world.enrollments.intervals
            past = {end: began for end, began in intervals.past.get(pair, {}).items() if began}
            action, ended_at = _net_change(changes, past)
            if action is not None:
                owner = intervals.past_owners.get((pair, ended_at)) if ended_at else None
                yield _Reversal(pair, action, last[pair] + _STEP, owner)


def _problem(batch: BatchStatus) -> str | None:
    """Return why a batch that is known cannot be undone; None if it can."""
    own_id = batch.batch_id
    if batch.state in (BatchState.STAGED, BatchState.HELD):
        return (
            f"No part of the batch {own_id} is applied yet, because its plan {batch.plan_id} is"
            " waiting. Discard the plan instead."
        )
    if batch.state in (BatchState.PLANNED, BatchState.DISCARDED):
        return f"No part of the batch {own_id} was applied: its plan is {batch.state}."
    if batch.kind is not Kind.ENROLLMENTS:
        return f"The batch {own_id} is a roster of {batch.kind}. Rosters are not undone."
    if len(UNDO_PREFIX + own_id) > MAX_STORED_ID:
        return f"The batch {own_id} cannot be undone: the id of its undo would be too long."
    return None


def _refused(batch_id: str, advice: str, state: UndoState = UndoState.REFUSED) -> BatchUndo:
    undo_id = UNDO_PREFIX + batch_id
    return BatchUndo(batch_id=batch_id, undo_id=undo_id, state=state, advice=advice)


def _results_of(world: World, batch_id: str) -> list[Result]:
    """Return the results of a batch, in the order in which they count."""
    results = [r for r in world.enrollments.results.values() if r.batch_id == batch_id]
    return sorted(results, key=lambda result: result.moment)


def _pairs_of(result: Result) -> Iterator[Pair]:
    if isinstance(result.student, int):
        for course in result.courses:
            yield result.student, course.key


def _changes_of(results: Sequence[Result]) -> Iterator[tuple[Pair, _Change]]:
    """Yield what results have changed; of one moment, drops came first."""
    for result in results:
        in_order = sorted(result.courses, key=lambda each: each.action is Action.ENROLL)
        for course in in_order:
            if isinstance(result.student, int) and course.change.is_made:
                pair = (result.student, course.key)
                yield pair, _Change(result.moment, course.action)


def _net_change(
    changes: Sequence[_Change], past: dict[datetime, datetime]
) -> tuple[Action | None, datetime | None]:
    """Return what undoes all changes of a pair, and the end of the enrollment that it restores.

    The changes are followed back as long as nothing else changed the pair between two of them.
    `past` has the beginning of each closed enrollment of the pair, by its end.
    """
    for position in reversed(range(len(changes))):
        change, earlier = changes[position], changes[position - 1] if position else None
        if change.action is Action.DROP:
            if earlier is None or earlier.moment != past.get(change.moment):
                return Action.ENROLL, change.moment
            continue
        end = max((end for end in past if end <= change.moment), default=None)
        if earlier is None or earlier.moment != end or earlier.action is Action.ENROLL:
            return (Action.DROP if changes[-1].action is Action.ENROLL else None), None
    return None, None


def _request_of(reversal: _Reversal) -> StudentEnrollmentRequest:
    is_drop = reversal.action is Action.DROP
    student, course = reversal.pair
    return StudentEnrollmentRequest(
        student_id=student,
        course_ids=() if is_drop else (course,),
        drop_course_ids=(course,) if is_drop else (),
        reason=REASON if is_drop else None,
        as_of=reversal.moment,
        atomic=False,
    )


def _courses(world: World, changes: Sequence[tuple[Pair, Action]]) -> Iterator[CourseUndo]:
    counts = Counter((pair[1], action) for pair, action in changes)
    for course, _ in Counter(pair[1] for pair, _ in changes).most_common(1_000):
        names = names_of_course(world.enrollments, course)
        yield CourseUndo(
            course_id=course,
            sis_id=names.sis_id,
            title=names.title,
            dropped=counts[course, Action.DROP],
            enrolled=counts[course, Action.ENROLL],
        )


def _names(world: World, pair: Pair) -> dict[str, Any]:
    return {
        "student_id": pair[0],
        "student_sis_id": world.enrollments.students.fields_of(pair[0])["sis_id"],
        "course_id": pair[1],
        "course_sis_id": names_of_course(world.enrollments, pair[1]).sis_id,
    }


def _named(world: World, pair: Pair, action: Action) -> UndoneEnrollment:
    return UndoneEnrollment(
        **_names(world, pair),
        action=action,
        student_name=world.enrollments.students.fields_of(pair[0]).get("name"),
        course_title=names_of_course(world.enrollments, pair[1]).title,
    )


def _left(world: World, undo_id: str) -> Iterator[LeftEnrollment]:
    """Yield the enrollments for which a later request won, with that request."""
    for result in _results_of(world, undo_id):
        for pair, course in zip(_pairs_of(result), result.courses, strict=False):
            if (moment := course.change.superseded_by) is None:
                continue
            others = world.enrollments.results.values()
            wins = (r for r in others if r.moment == moment and pair in _pairs_of(r))
            winner = next(wins, None)
            yield LeftEnrollment(
                **_names(world, pair),
                action=course.action,
                moment=moment,
                request_id=winner and winner.incoming.request_id,
            )
