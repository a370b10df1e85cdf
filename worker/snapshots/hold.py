"""Decide whether a plan waits for a decision, and say why to a registrar. Pure, no SQL."""

from collections.abc import Iterator
from typing import Final

from producer.contract.plan_requests import ALWAYS, PlanRequest
from producer.contract.plans import HoldReason, PlannedBatch, Reason
from producer.contract.printable import shell_word
from worker.snapshots.rules import HoldRules
from worker.snapshots.values import Absence, CourseLoss

_HALF: Final = 50.0
_COURSES_NAMED: Final = 3
"""The most courses that a sentence names."""

_CHECK = "Check that the file is complete. If it is, approve the plan; if not, discard it."


def reasons_to_hold(
    request: PlanRequest, rules: HoldRules, absence: Absence | None, batch: PlannedBatch
) -> tuple[Reason, ...]:
    """Return why a plan must wait for a decision; empty if it may be applied at once.

    `absence` is None if the plan is no snapshot; `batch` is what its enrollments would do.
    """
    reasons = [*_of_submitter(request, rules, absence)]
    if absence is not None:
        reasons += _of_snapshot(request, rules, absence, batch)
    first = {reason.code: reason for reason in reversed(reasons)}
    return tuple(reason for reason in reasons if first[reason.code] is reason)


_Reasons = Iterator[Reason]


def _reason(code: HoldReason, message: str) -> Reason:
    return Reason(code=code, message=message)


def _of_submitter(request: PlanRequest, rules: HoldRules, absence: Absence | None) -> _Reasons:
    if request.hold == ALWAYS:
        yield _reason(
            HoldReason.ALWAYS,
            "The submitter asked for a decision. Look at what the plan would do, then approve or"
            " discard it.",
        )
    elif absence is not None and rules.always:
        yield _reason(
            HoldReason.ALWAYS,
            "The rules of its data set say that every snapshot waits for a decision. Look at what"
            " the plan would do, then approve or discard it.",
        )
    elif absence is not None and request.hold is not None:
        percent = float(request.hold.removesuffix("%"))
        drops, owned = absence.absent.dropped, absence.owned_before
        if drops and drops * 100 >= percent * owned:
            yield _reason(
                HoldReason.MANY_DROPS,
                f"It would drop {_enrollments(drops)} {_share(drops, owned)}, and the submitter"
                f" asked for a decision from {request.hold} on. {_CHECK}",
            )


def _of_snapshot(
    request: PlanRequest, rules: HoldRules, absence: Absence, batch: PlannedBatch
) -> _Reasons:
    drops, owned = absence.absent.dropped, absence.owned_before
    if drops > rules.drops_rows and _exceeds(drops, owned, rules.drops_percent):
        yield _reason(
            HoldReason.MANY_DROPS,
            f"It would drop {_enrollments(drops)} {_share(drops, owned)}; a snapshot that"
            f" drops more than {rules.drops_percent:g} % is held. {_CHECK}",
        )
    most = max(_HALF, rules.drops_percent)
    if drops >= 2 and _exceeds(drops, owned, most):  # noqa: PLR2004 - a single one is no pattern
        yield _reason(
            HoldReason.MOST_DROPS,
            f"It would drop most of its data set: {drops:,} of {_enrollments(owned)}. Check that"
            " the file is complete, of the right term, and uses the same ids as before. If it is"
            " right, approve the plan; if not, discard it.",
        )
    yield from _of_courses(rules, absence)
    if rules.no_enrollments and not batch.books.enrolled + batch.books.already_enrolled:
        yield _reason(
            HoldReason.NO_ENROLLMENTS,
            "The file enrolls no student. Check that it is the right file, that it is complete, and"
            " that its ids are those of the roster; then discard the plan and submit the file"
            " again.",
        )
    yield from _of_refused_lines(rules, absence)
    yield from _of_owners(request, rules, absence)


def _of_owners(request: PlanRequest, rules: HoldRules, absence: Absence) -> _Reasons:
    """Yield why a file may belong to another data set than the one that it was submitted for."""
    # Enrollments that the data set named before, too, are an overlap that was accepted then.
    foreign = sum(other.new for other in absence.others)
    not_owned = 0 if request.adopt else absence.not_owned
    named, percent = absence.named, rules.not_owned_percent
    if not _exceeds(foreign + not_owned, named, percent):
        return
    is_either = not (_exceeds(foreign, named, percent) or _exceeds(not_owned, named, percent))
    if is_either or _exceeds(not_owned, named, percent):
        yield _reason(
            HoldReason.NOT_OWNED,
            f"{not_owned:,} of the {named:,} enrollments that the file names exist already and"
            " belong to no data set, so later files would never drop them. To let this data set"
            " own them, discard the plan and submit the file again with --adopt. To leave them as"
            " they are, approve the plan.",
        )
    if is_either or _exceeds(foreign, named, percent):
        first, *more = absence.others
        listed = f"the data set {first.name}" + (
            f", and {sum(other.owned for other in more):,} to other data sets" if more else ""
        )
        yield _reason(
            HoldReason.OTHER_DATA_SET,
            f"Of the {absence.existing:,} enrollments in the file that already exist,"
            f" {first.owned:,} belong to {listed}. Check that the file was submitted for the right"
            f" data set. If it is a file of {first.name}, discard the plan and submit the file"
            f" again with --snapshot {shell_word(first.name)}. If both data sets name the same"
            " enrollments on purpose, approve the plan: each enrollment then lasts until neither"
            " of them names it.",
        )


def _of_courses(rules: HoldRules, absence: Absence) -> _Reasons:
    losing = [loss for loss in absence.losses if _loses_most(loss, rules)]
    if not losing:
        return
    named = [f"{each.name} would lose {each.drops:,} of {each.owned:,}" for each in losing]
    more = len(named) - _COURSES_NAMED
    listed = "; ".join(named[:_COURSES_NAMED]) + (
        f"; and {more:,} more courses" if more > 0 else ""
    )
    yield _reason(
        HoldReason.COURSE_LOSES_MOST,
        f"Courses would lose more than {rules.course_percent:g} % of their students: {listed}."
        " Check that the file has these courses, under the same ids. If it is right, approve the"
        " plan; if not, discard it.",
    )


def _loses_most(loss: CourseLoss, rules: HoldRules) -> bool:
    is_large = loss.owned >= rules.course_students
    return is_large and _exceeds(loss.drops, loss.owned, rules.course_percent)


def _of_refused_lines(rules: HoldRules, absence: Absence) -> _Reasons:
    half, nothing = absence.doubts
    drops = absence.absent.dropped
    if not rules.refused_lines or not drops or not half + nothing:
        return
    yield _reason(
        HoldReason.REFUSED_LINES,
        f"{_lines(half + nothing)} may be about enrollments that would be dropped ({drops:,} in"
        f" all): {_recognized(half, nothing)}. Correct the file, discard the plan, and submit the"
        " file again; or approve the plan if no refused line is about an enrollment to be dropped.",
    )


def _lines(count: int) -> str:
    return "1 refused line" if count == 1 else f"{count:,} refused lines"


def _recognized(half: int, nothing: int) -> str:
    """Return what is known of the refused lines, as a clause."""
    if not nothing:
        return "the roster has only the student or only the course"
    if not half:
        return "the roster has neither the student nor the course"
    return (
        f"for {half:,} of them, the roster has only the student or only the course, and for"
        f" {nothing:,}, neither"
    )


def _exceeds(part: int, whole: int, percent: float) -> bool:
    return part * 100 > percent * whole


def _share(part: int, whole: int) -> str:
    percent = f" ({100 * part / whole:.1f} %)" if whole else ""
    return f"of the {whole:,} that its data set owns{percent}"


def _enrollments(count: int) -> str:
    return f"{count:,} enrollment" if count == 1 else f"{count:,} enrollments"
