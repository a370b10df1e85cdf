"""Make the entries of a history from results and from enrollments. Pure functions, no SQL."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.history import Change, HistoryCourse, HistoryEntry, refused_lines
from producer.schemas import Action, EnrollmentProblem, ResultStatus
from worker.enrollment.problems import stored_problem
from worker.enrollment.values import CourseSummary, StoredResult


class Draft(NamedTuple):
    """An entry before its course is described and its line is found."""

    moment: datetime
    change: Change
    course: int | None
    action: Action | None
    result: Any | None = None
    """The row of the result that it comes from; None if that was pruned."""
    row: int | None = None
    """The position of the course among those that were enrolled or dropped, if none of the request
    was superseded."""
    course_id: int | str | None = None
    """The course as the request named it, if it does not exist."""
    superseded_by: datetime | None = None
    errors: tuple[EnrollmentProblem, ...] = ()
    reason: str | None = None
    request_id: str | None = None

    @property
    def order(self) -> tuple[datetime, tuple[bool, str, int], int]:
        """Return what entries are sorted by, the latest one first."""
        request_id = self.result.request_id if self.result else self.request_id
        return self.moment, self.change.place(request_id), -(self.course or 0)


class ResultRow(NamedTuple):
    """What a history shows of a derived result: the columns that it would have if it was stored."""

    request_id: str
    batch_id: str | None
    status: str
    enrolled: Sequence[int]
    already: Sequence[int]
    completed_at: datetime
    counts_at: datetime
    dropped: None = None
    not_enrolled: None = None
    superseded: None = None
    errors: Sequence[Any] = ()
    reason: None = None
    line: None = None


def row_of_result(result: StoredResult) -> ResultRow:
    """Return a derived result as the row that would be stored."""
    return ResultRow(
        result.request_id,
        result.batch_id,
        result.status,
        result.enrolled_ids,
        result.already_enrolled_ids,
        result.completed_at,
        result.moment or result.completed_at,
    )


def of_intervals(intervals: Iterable[Any]) -> Iterator[Draft]:
    """Yield when enrollments began and ended."""
    for row in intervals:
        yield Draft(row.enrolled_at, Change.ENROLLED, row.course_id, Action.ENROLL)
        if row.ended_at is not None:
            yield Draft(
                row.ended_at,
                Change.DROPPED,
                row.course_id,
                Action.DROP,
                reason=row.reason,
                request_id=row.request_id,
            )


def of_result(row: Any) -> Iterator[Draft]:
    """Yield what a result says: the changes it made, and what was superseded or refused."""
    moment = row.counts_at
    enrolled, dropped = row.enrolled or (), row.dropped or ()
    superseded, errors = row.superseded or (), row.errors or ()
    for position, course in enumerate(enrolled):
        if course not in row.already:
            place = None if superseded else position
            yield Draft(moment, Change.ENROLLED, course, Action.ENROLL, row, place)
    for position, course in enumerate(dropped, len(enrolled)):
        if course not in (row.not_enrolled or ()):
            place = None if superseded else position
            yield Draft(moment, Change.DROPPED, course, Action.DROP, row, place)
    for course, action, won_at in superseded:
        won = datetime.fromisoformat(won_at)
        yield Draft(moment, Change.SUPERSEDED, course, Action(action), row, superseded_by=won)
    problems = tuple(stored_problem(error) for error in errors)
    if row.status == ResultStatus.REJECTED:
        named = problems[0].course_id if len(problems) == 1 else None
        yield Draft(moment, Change.REJECTED, None, None, row, course_id=named, errors=problems)
        return
    for problem in problems:
        yield Draft(
            moment,
            Change.REJECTED,
            None,
            None,
            row,
            course_id=problem.course_id,
            errors=(problem,),
        )


def merge(from_results: Iterable[Draft], from_intervals: Iterable[Draft]) -> list[Draft]:
    """Merge the entries of results with those of stored enrollments, the latest moment first.

    A change that is in both becomes one entry, that of the result, which says more about it.
    """
    merged: dict[Any, Draft] = {(d.moment, d.change, d.course): d for d in from_intervals}
    for draft in from_results:
        changes = draft.change in (Change.ENROLLED, Change.DROPPED)
        own = () if changes else (draft.order, draft.course_id, len(merged))
        merged[draft.moment, draft.change, draft.course, *own] = draft
    return sorted(merged.values(), key=lambda draft: draft.order, reverse=True)


def to_entry(
    draft: Draft, courses: Mapping[int, CourseSummary], lines: Sequence[int]
) -> HistoryEntry:
    """Make an entry of a draft; `lines` are those of its request in the submitted file."""
    result = draft.result
    course = None
    if draft.course is not None:
        about = courses.get(draft.course)
        course = HistoryCourse(
            id=draft.course,
            sis_id=about.sis_id if about else None,
            title=about.title if about else None,
        )
    elif draft.course_id is not None:
        named = draft.course_id
        course = HistoryCourse(
            id=named if isinstance(named, int) else None,
            sis_id=named if isinstance(named, str) else None,
        )
    return HistoryEntry(
        moment=draft.moment,
        change=draft.change,
        action=draft.action,
        course=course,
        request_id=result.request_id if result else draft.request_id,
        batch_id=result.batch_id if result else None,
        line=_line_of(draft, lines),
        lines=refused_lines(draft.errors, lines),
        reason=result.reason if result else draft.reason,
        superseded_by=draft.superseded_by,
        errors=draft.errors,
        completed_at=result.completed_at if result else None,
    )


def _line_of(draft: Draft, lines: Sequence[int]) -> int | None:
    """Return the line of an entry; None if it is not known.

    The lines of a request are those to enroll and then those to drop, and so are the courses of its
    result. Without the lines of refused courses, there is a line for each of them, unless two lines
    name one course.
    """
    result = draft.result
    if draft.errors:
        return draft.errors[0].line
    if result is None or len(lines) <= 1:
        return lines[0] if lines else result.line if result else None
    refused = {error.get("line") for error in result.errors or ()}
    accepted = [line for line in lines if line not in refused]
    if draft.row is None or len(accepted) != len(result.enrolled) + len(result.dropped or ()):
        return None
    return accepted[draft.row]
