"""Find in memory what a snapshot does not name, and why it should wait for a decision."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.chunks import Chunk, courses_of
from producer.contract.plan_requests import PlanRequest
from producer.contract.plans import AbsentRows, CourseDrops, HoldReason, PlannedBatch, Reason
from producer.schemas import Action, Kind
from producer.testing.intervals import Pair
from producer.testing.reading import names_of_course
from producer.testing.world import World

MANY_PERCENT, MANY_ROWS, MOST_ROWS, COURSE_STUDENTS = 5, 10, 2, 10
"""From how many drops on a plan is held: of 5 percent and 10 rows, of most and 2 rows, and of most
students of a course with 10."""


class Named(NamedTuple):
    """The pairs that a snapshot names, and those of its refused lines, recognized or not."""

    pairs: set[Pair]
    refused: set[Pair]
    halves: frozenset[tuple[int | None, int | None]]
    """The student or the course of refused lines of which only that one is known, or neither."""


class Absence(NamedTuple):
    """The enrollments that a data set owned before its snapshot, and those that it lacks."""

    owned_before: int
    rows: AbsentRows
    drops: tuple[Pair, ...]
    passed_on: tuple[Pair, ...]
    courses: tuple[CourseDrops, ...]

    @property
    def listed(self) -> list[Pair]:
        """The enrollments that the plan drops or passes on."""
        return sorted({*self.drops, *self.passed_on})


NOTHING_ABSENT = Absence(0, AbsentRows(), (), (), ())


def named_by(world: World, chunks: Iterable[Chunk], refused_lines: set[int]) -> Named:
    """Return what the chunks of a snapshot name; `refused_lines` are the lines of refusals."""
    pairs, refused, halves = set(), set(), set()
    for chunk in chunks:
        lines = chunk.lines_of_records
        for record, own_lines in zip(chunk.records_in_order, lines, strict=True):
            plain = record if isinstance(record, dict) else record.model_dump()
            student = _key(world.enrollments.students, plain.get("student_id"))
            for place, identifier in enumerate(courses_of(plain, Action.ENROLL)):
                line = own_lines[place] if len(own_lines) > 1 else own_lines[0]
                course = _key(world.enrollments.courses, identifier)
                if student is None or course is None:
                    halves.add((student, course))
                elif line in refused_lines:
                    refused.add((student, course))
                else:
                    pairs.add((student, course))
        if chunk.refused:
            halves.add((None, None))
    return Named(pairs, refused - pairs, frozenset(halves))


def _key(part: Any, identifier: Any) -> int | None:
    is_id = isinstance(identifier, int | str) and not isinstance(identifier, bool)
    key: int | None = part.key_of(identifier) if is_id else None
    return key


def find_absence(
    world: World, data_set: str, moment: datetime, named: Named, before: set[Pair]
) -> Absence:
    """Return what a snapshot of a data set lacks, which owned the pairs of `before`."""
    absent = sorted(world.data_sets.owned_by(data_set) - named.pairs)
    counts: Counter[str] = Counter()
    drops, passed_on = [], []
    for pair in absent:
        if pair in named.refused:
            counts["kept_refused"] += 1
        elif world.enrollments.intervals.confirmed_at(pair) >= moment:
            counts["kept_newer"] += 1
        elif world.data_sets.heir_of(pair) is not None:
            counts["passed_on"] += 1
            passed_on.append(pair)
        else:
            counts["dropped"] += 1
            drops.append(pair)
    rows = AbsentRows(absent=len(absent), **counts)
    courses = tuple(_courses(world, before, drops))
    return Absence(len(before), rows, tuple(drops), tuple(passed_on), courses)


def fate_of(world: World, data_set: str, moment: datetime, pair: Pair) -> str:
    """Return what becomes of a planned drop of a snapshot of a data set when its turn has come."""
    intervals = world.enrollments.intervals
    if pair not in intervals.open:
        return "not_enrolled"
    owner = intervals.owners.get(pair)
    if owner is None or (owner == data_set and intervals.confirmed_at(pair) >= moment):
        return "kept_newer"
    is_passed_on = owner != data_set or world.data_sets.heir_of(pair) is not None
    return "passed_on" if is_passed_on else "dropped"


def swept_rows(planned: AbsentRows, fates: Iterable[str]) -> AbsentRows:
    """Return what became of the enrollments of a plan that a snapshot does not name."""
    counts = Counter(planned.model_dump() | {"dropped": 0, "passed_on": 0})
    counts.update(fates)
    return AbsentRows(**counts)


def _courses(world: World, before: set[Pair], drops: Iterable[Pair]) -> Iterator[CourseDrops]:
    owned = Counter(course for _, course in before)
    for course, count in Counter(course for _, course in drops).most_common():
        names = names_of_course(world.enrollments, course)
        yield CourseDrops(
            course_id=course,
            sis_id=names.sis_id,
            title=names.title,
            owned=owned[course],
            drops=count,
        )


def reasons_to_hold(
    request: PlanRequest,
    absence: Absence,
    named: Named,
    batch: PlannedBatch,
    not_owned: int,
    others: Counter[str],
) -> Iterator[Reason]:
    """Yield why a plan waits for a decision.

    `not_owned` are named pairs without an owner, `others` those that other data sets own and that
    the plan's had not named before.
    """
    if request.hold == "always":
        yield _reason(HoldReason.ALWAYS, "Its submitter asked for a decision.")
    if not request.snapshot:
        return
    yield from _many_drops(request, absence)
    if batch.kind is Kind.ENROLLMENTS and not named.pairs and not named.refused:
        yield _reason(HoldReason.NO_ENROLLMENTS, "The file names no enrollment that is known.")
    if absence.drops and any(_is_about(half, absence.drops) for half in named.halves):
        yield _reason(
            HoldReason.REFUSED_LINES,
            "Lines were refused that may be about enrollments that would be dropped. Correct them.",
        )
    yield from _of_owners(named, 0 if request.adopt else not_owned, others)


def _of_owners(named: Named, not_owned: int, others: Counter[str]) -> Iterator[Reason]:
    count, foreign = len(named.pairs), others.total()
    if (not_owned + foreign) * 2 <= count:
        return
    is_either = not_owned * 2 <= count and foreign * 2 <= count
    if is_either or not_owned * 2 > count:
        yield _reason(
            HoldReason.NOT_OWNED,
            f"{not_owned:,} of the {count:,} named enrollments exist, and no data set owns them. If"
            " they belong to this one, submit the file again, and let it adopt them.",
        )
    if is_either or foreign * 2 > count:
        ((name, owned),) = others.most_common(1)
        yield _reason(
            HoldReason.OTHER_DATA_SET,
            f"{owned:,} of the {count:,} named enrollments exist and belong to the data set {name}."
            " Check that the file was submitted for the right one.",
        )


def _many_drops(request: PlanRequest, absence: Absence) -> Iterator[Reason]:
    owned, drops = absence.owned_before, len(absence.drops)
    sentence = f"{drops:,} of {owned:,} enrollments of the data set would be dropped."
    if (drops * 100 > owned * MANY_PERCENT and drops > MANY_ROWS) or (
        drops and drops * 100 >= owned * _own_percent(request)
    ):
        yield _reason(HoldReason.MANY_DROPS, sentence)
    if drops * 2 > owned and drops >= MOST_ROWS:
        yield _reason(HoldReason.MOST_DROPS, sentence)
    for course in absence.courses:
        if course.owned >= COURSE_STUDENTS and course.drops * 2 > course.owned:
            yield _reason(
                HoldReason.COURSE_LOSES_MOST,
                f"Course {course.sis_id} would lose {course.drops:,} of {course.owned:,} students.",
            )


def _own_percent(request: PlanRequest) -> float:
    """Return from which share of drops on the submitter wants the plan to be held."""
    is_share = request.hold is not None and request.hold.endswith("%")
    return float(str(request.hold).removesuffix("%")) if is_share else float("inf")


def _reason(code: HoldReason, message: str) -> Reason:
    return Reason(code=code, message=message)


def _is_about(half: tuple[int | None, int | None], drops: Iterable[Pair]) -> bool:
    """Return whether a refused line may be about one of these drops."""
    student, course = half
    return any(student in (None, pair[0]) and course in (None, pair[1]) for pair in drops)
