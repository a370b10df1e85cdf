"""Lay out plans for people: what a submission would change, why it waits, and what to do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from producer.commands import display
from producer.commands.counts import applied_counts
from producer.commands.terminal import one_line
from producer.contract.batches import BatchState, BatchStatus
from producer.contract.plans import AbsentRows, CourseDrops, PlannedBatch, PlanState, PlanStatus
from producer.contract.printable import moment_text, shell_argument

SHOWN_COURSES: Final = 20
"""The most courses with planned drops that are listed."""

_ABSENT: Final[Mapping[str, str]] = {
    "dropped": "dropped",
    "kept_newer": "kept, because a newer request names them",
    "passed_on": "kept for another data set that names them",
    "kept_refused": "kept, because a refused line names them",
    "not_enrolled": "already dropped by another request",
}
"""What becomes of enrollments that a snapshot does not name."""

_WHY: Final[Mapping[PlanState, str]] = {
    PlanState.PLANNED: "Why it would wait for a decision",
    PlanState.HELD: "Why it waits for a decision",
    PlanState.DISCARDED: "Why it was held",
}
"""The heading of the reasons for which a plan is held, in the states in which they count."""

_COLORS: Final[Mapping[PlanState, str]] = {PlanState.DONE: "green", PlanState.PLANNED: "green"}


def plan(status: PlanStatus) -> RenderableType:
    """Lay out the report of a plan, and what to do next."""
    if status.state is PlanState.UNKNOWN:
        return one_line(unknown(status.plan_id))
    state = (status.state.value, _COLORS.get(status.state, "yellow"))
    what = f" (snapshot of {status.data_set}): " if status.snapshot else ": "
    parts: list[RenderableType] = [
        one_line(("Plan ", "bold"), status.plan_id, what, state),
        *_times(status),
        *display.undo_lines(status),
        *_batches(status),
        *_absent(status),
        *_courses(status),
    ]
    if status.reasons and (why := _WHY.get(status.state)) is not None:
        parts.append(Text(f"\n{why}", style="bold"))
        parts += [
            one_line("  ", (reason.code.value, "red"), f": {reason.message}")
            for reason in status.reasons
        ]
    parts += [one_line(f"Different from the plan: {text}") for text in status.differences]
    if status.advice and status.state is not PlanState.HELD:  # Its reasons say the same.
        parts.append(one_line((status.advice, "yellow")))
    parts += [one_line(f"  {line}") for line in next_steps(status)]
    return Group(*parts)


def unknown(plan_id: str) -> str:
    """Say that there is no plan with an id, and which one may have been meant."""
    return (
        f"No plan with the id {plan_id} is known. Check the id; for a package, it is that of its"
        f" last batch, such as {plan_id}:enrollments."
    )


def meant(plan_id: str, related: Sequence[BatchStatus]) -> str | None:
    """Say which plan was meant by the id of a package, or of a part of one; None if none was.

    `related` are the batches with this id, or with ids that the parts of such a package have.
    """
    plans = dict.fromkeys(batch.plan_id for batch in related if batch.plan_id is not None)
    if plans:
        named = " and ".join(f"`enroll plan {shell_argument(plan)}`" for plan in plans)
        return f"{plan_id} is a part of a submission, or a package, whose plan is another: {named}."
    if any(batch.chunks_applied for batch in related):
        return (
            f"{plan_id} was applied without a plan. `enroll status {shell_argument(plan_id)}` shows"
            " it."
        )
    if related:
        return (
            f"No plan of {plan_id} is stored: it was submitted without one, or none of its chunks"
            f" has arrived. `enroll status {shell_argument(plan_id)}` says what it waits for."
        )
    return None


def next_steps(status: PlanStatus) -> Iterator[str]:
    """Yield the commands with which to go on, each with what it does."""
    word = shell_argument(status.plan_id)
    if status.absent.dropped:
        yield f"enroll plan --csv drops.csv {word}   writes every planned drop to a file"
    if status.state is PlanState.HELD:
        yield f"enroll approve {word}   applies it (for an operator)"
        yield f"enroll discard {word}   discards it (for an operator)"


def _times(status: PlanStatus) -> Iterator[Text]:
    if status.planned_at is not None:
        yield one_line(f"The report was true at {moment_text(status.planned_at)}.")
    if status.digest is not None and status.state is PlanState.HELD:
        yield one_line(f"Its digest is {status.digest}.")
    if status.state is PlanState.HELD and status.expires_at is not None:
        yield one_line(f"Without a decision it is discarded at {moment_text(status.expires_at)}.")


def _batches(status: PlanStatus) -> Iterator[RenderableType]:
    is_done = status.state is PlanState.DONE
    if status.planned_at is None:  # There is no report yet, or there never will be one.
        return
    for batch in status.batches:
        verb = "did" if is_done else "would do"
        yield Text()
        yield one_line(f"What the {batch.kind} of batch {batch.batch_id} {verb}")
        counts = [("received", batch.books.received), *applied_counts(_as_status(batch))]
        yield display.table(["", "rows"], [(name, f"{count:,}") for name, count in counts])
        if batch.refusals:
            yield from (Text(), Text("Refusals", style="bold"))
            yield display.refusals(batch.refusals)


def _as_status(batch: PlannedBatch) -> BatchStatus:
    state = BatchState.PLANNED
    return BatchStatus(batch_id=batch.batch_id, state=state, kind=batch.kind, books=batch.books)


def _absent(status: PlanStatus) -> Iterator[RenderableType]:
    if not status.snapshot or status.planned_at is None:
        return
    rows: AbsentRows = status.applied or status.absent
    yield Text()
    verb = "is" if rows.absent == 1 else "are"
    yield one_line(
        f"Of {status.owned_before:,} enrollments of the data set, {rows.absent:,} {verb} not in the"
        " snapshot"
    )
    counts = [(word, getattr(rows, name)) for name, word in _ABSENT.items()]
    listed = [(word, f"{count:,}") for word, count in counts if count]
    if listed:
        yield display.table(["", "rows"], listed, headings=False)


def _courses(status: PlanStatus) -> Iterator[RenderableType]:
    if not status.courses:
        return
    yield Text("\nDrops by course", style="bold")
    shown = status.courses[:SHOWN_COURSES]
    rows = [(c.sis_id, c.title or "", _drops_of(c)) for c in shown]
    yield display.table(["course", "title", "students"], rows)
    if more := len(status.courses) - len(shown):
        yield one_line(f"and {more:,} more courses" if more > 1 else "and 1 more course")


def _drops_of(course: CourseDrops) -> str:
    """Return how many students a course loses, and what was planned if that differs."""
    if course.dropped is None or course.dropped == course.drops:
        return f"{course.drops:,} of {course.owned:,}"
    return f"{course.dropped:,} of {course.owned:,} ({course.drops:,} were planned)"
