"""What a snapshot repeats is looked up once; all is as if it were looked up each time."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text, update

from producer.contract.chunks import EnrollmentChunk, RefusedLine
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.schemas import Kind
from support.chunks import status
from support.databases import clear_batches, opened_database, store_roster
from support.derived import all_results
from support.snapshots import Feeds
from support.staging import MOMENT, advance, make_due, request, stage, work_on
from worker.data_sets.repository import allow_snapshots, data_set_key
from worker.database.engine import Database
from worker.models import BatchRefusal, Course, PastEnrollment, Student, StudentCourse
from worker.plan_models import (
    AlsoEnrolledBy,
    DataSet,
    PlanMember,
    PlannedDropRow,
    PlannedRefusal,
    PlanRow,
    StagedChunk,
)
from worker.plans.advance import advance_next
from worker.plans.applying import StoredChunk
from worker.plans.decisions import decide
from worker.plans.reports.lookups import plan_status
from worker.plans.repository import read_staged
from worker.snapshots.unchanged import unpack
from worker.undo.run import undo
from worker.undo.values import AlreadyUndone, CannotUndo

STUDENTS = ("S1", "S2", "S3", "S4", "S5")
COURSES = ("C1", "C2", "C3", "C4")
FILE = {student: list(COURSES[:3]) for student in STUDENTS}
LINE = RefusedLine(line=99, message="unreadable", cells=("S1", "C4"))

# --- nights -------------------------------------------------------------------------------------


def chunks_of_night(
    batch_id: str,
    file: Sequence[tuple[Any, Sequence[Any]]],
    *,
    size: int = 10,
    as_columns: bool = True,
    refused: bool = False,
    **fields: Any,
) -> list[EnrollmentChunk]:
    """Return the chunks of a snapshot of `sis`, each with some of the requests of a file."""
    plan = request((batch_id, Kind.ENROLLMENTS), snapshot=True, **fields)
    groups = [file[start : start + size] for start in range(0, len(file), size)] or [[]]
    return [
        EnrollmentChunk.model_validate_json(
            json.dumps(
                {
                    "batch_id": batch_id,
                    "number": number,
                    "last": number == len(groups) - 1,
                    "data_set": "sis",
                    "plan": plan.model_dump(mode="json"),
                    "refused": [LINE.model_dump()] if refused and not number else [],
                    **_requests(group, as_columns=as_columns),
                }
            )
        )
        for number, group in enumerate(groups)
    ]


def _requests(group: Sequence[tuple[Any, Sequence[Any]]], *, as_columns: bool) -> dict[str, Any]:
    if as_columns and group:
        students, courses = zip(*group, strict=True)
        return {"requests": {"student_ids": students, "course_ids": courses}}
    return {"records": [{"student_id": s, "course_ids": list(courses)} for s, courses in group]}


def create_data_set(database: Database) -> None:
    with database.writing() as connection:
        allow_snapshots(connection, data_set_key(connection, "sis", MOMENT))


def forget_unchanged(database: Database) -> None:
    """Let everything be looked up again."""
    with database.writing() as connection:
        connection.execute(update(StagedChunk).values(unchanged=None, losses=None))


def noted(database: Database) -> int:
    """Return how many stored chunks have unchanged requests."""
    with database.reading() as connection:
        rows = connection.scalars(select(StagedChunk.unchanged))
        return sum(unchanged is not None for unchanged in rows)


def night(database: Database, batch_id: str, file: Any, day: int, **options: Any) -> None:
    """Store a snapshot."""
    items = list(file.items()) if isinstance(file, dict) else file
    for chunk in chunks_of_night(batch_id, items, **options):
        stage(database, chunk, moment=MOMENT + timedelta(days=day))


def approve_if_held(database: Database, plan_id: str) -> None:
    status = plan_status(database, plan_id)
    if status.state is PlanState.HELD:
        decide(database, plan_id, Decision.APPROVE, status.digest)


def finish(database: Database, plan_id: str) -> PlanStatus:
    advance(database, plan_id)
    approve_if_held(database, plan_id)
    return advance(database, plan_id)


@pytest.fixture
def repeated(database: Database) -> Database:
    """A database in which a snapshot of `sis` was applied, and the same one is stored again."""
    store_roster(database, STUDENTS, COURSES)
    create_data_set(database)
    night(database, "first", FILE, 0)
    assert noted(database) == 0
    assert finish(database, "first").state is PlanState.DONE
    night(database, "again", FILE, 1)
    assert noted(database) == 1
    return database


def never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the text of a stored chunk be unreadable."""
    monkeypatch.setattr("worker.plans.stored.read_chunk", _fail)


def _fail(*_: Any) -> Any:
    raise AssertionError("the chunk was parsed")


def test_what_nothing_changed_is_neither_parsed_nor_looked_up_again(
    repeated: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.plans.temporary.making.read_chunk", _fail)
    never_parsed(monkeypatch)
    done = advance(repeated, "again")
    assert done.state is PlanState.DONE
    assert done.absent.absent == 0
    assert done.batches[0].books.already_enrolled == 15
    assert len(all_results(repeated)) == 10


def drop_by_hand(database: Database) -> None:
    Feeds(database).by_hand(MOMENT + timedelta(days=2), drop=[("S2", "C2")])


def delete_by_sql(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(delete(StudentCourse).where(StudentCourse.student_id == 2))


def take_by_sql(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(
            update(StudentCourse).where(StudentCourse.student_id == 2).values(data_set=None)
        )


def rename_a_student(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(update(Student).where(Student.id == 2).values(sis_id="S9"))


def rename_a_course(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(update(Course).where(Course.id == 2).values(sis_id="C9"))


def lose_a_trigger(database: Database) -> None:
    with database.writing() as connection:
        on = " ON student_courses" if connection.dialect.name == "postgresql" else ""
        connection.execute(text(f"DROP TRIGGER count_losses_by_delete{on}"))


def rename_uncounted(database: Database) -> None:
    """Rename a student after the trigger that would have counted it was lost."""
    with database.writing() as connection:
        is_postgresql = connection.dialect.name == "postgresql"
        name = "count_losses_of_all ON students" if is_postgresql else "count_losses_by_students"
        connection.execute(text(f"DROP TRIGGER {name}"))
    rename_a_student(database)


LOSSES = [
    (drop_by_hand, (14, 0)),  # The drop counts later than the snapshot.
    (delete_by_sql, (12, 3)),
    (take_by_sql, (15, 0)),
    (rename_a_student, (12, 0)),
    (rename_a_course, (0, 0)),  # Each request names it, and is refused as a whole.
    (lose_a_trigger, (15, 0)),
    (rename_uncounted, (12, 0)),
]


@pytest.mark.parametrize(("loss", "rows"), LOSSES, ids=[loss.__name__ for loss, _ in LOSSES])
@pytest.mark.parametrize("is_planned", [False, True])
def test_after_a_loss_everything_is_looked_up_again(
    repeated: Database, loss: Callable[[Database], None], rows: tuple[int, int], *, is_planned: bool
) -> None:
    if is_planned:
        assert advance_next(work_on(repeated))
    loss(repeated)
    assert finish(repeated, "again").state is PlanState.DONE
    books = status(repeated, "again").books
    assert (books.already_enrolled, books.enrolled) == rows


def test_chunks_are_not_noted_without_the_trigger_that_counts(repeated: Database) -> None:
    advance(repeated, "again")
    lose_a_trigger(repeated)
    night(repeated, "third", FILE, 2)
    assert noted(repeated) == 0


def test_what_another_version_noted_is_looked_up_again(repeated: Database) -> None:
    with repeated.writing() as connection:
        connection.execute(update(StagedChunk).values(unchanged=b"\xff unknown"))
    done = advance(repeated, "again")
    assert done.state is PlanState.DONE
    assert done.batches[0].books.already_enrolled == 15


def test_what_was_enrolled_since_a_chunk_was_stored_is_compared_too(repeated: Database) -> None:
    """The data set owns more of the student now than the file named when it was stored."""
    Feeds(repeated).batch("sis", [("S3", "C4")], MOMENT + timedelta(hours=1))
    done = finish(repeated, "again")
    assert (done.owned_before, done.absent.absent, done.absent.dropped) == (16, 1, 1)
    assert len(Feeds(repeated).pairs()) == 15


def test_of_a_student_that_has_grown_only_notes_that_hold_are_read(database: Database) -> None:
    """An older note of the same snapshot names the student by an id that is not its id any more."""
    store_roster(database, STUDENTS, COURSES)
    create_data_set(database)
    night(database, "first", FILE, 0)
    finish(database, "first")
    file = {name: list(COURSES[:3]) for name in ("S1", "S2")} | {"S9": ["C1", "C2"]}
    older, newer = chunks_of_night("again", list(file.items()), size=2)
    moment, feeds = MOMENT + timedelta(days=1), Feeds(database)
    stage(database, older, moment=moment)
    rename_a_student(database)
    feeds.by_hand(MOMENT + timedelta(hours=1), drop=[("S9", "C3")])
    stage(database, newer, moment=moment)
    assert noted(database) == 2
    feeds.batch("sis", [("S9", "C3")], MOMENT + timedelta(hours=2))
    assert finish(database, "again").absent.dropped == 10
    assert ("S9", "C3") not in feeds.pairs()


def test_only_requests_that_change_something_are_decided_one_by_one(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)
    create_data_set(database)
    night(database, "first", FILE, 0)
    finish(database, "first")
    night(database, "again", FILE | {"S2": ["C1", "C4"]}, 1)
    assert noted(database) == 1
    done = finish(database, "again")
    books = status(database, "again").books
    assert (books.enrolled, books.already_enrolled) == (1, 13)
    assert (done.absent.dropped, done.differences) == (2, ())


@pytest.mark.parametrize(
    "file",
    [
        [(student, [course]) for course in COURSES[:3] for student in STUDENTS],
        [(student, ["C4", "C3"]) for student in STUDENTS],
        [("S1", ["C1"]), ("S1", ["C2"]), ("S1", ["C3"])],
        [("S1", ["C1", "C2", "C3"]), ("S1", ["C1", "C2", "C3"])],
        [("S1", ["C1", "C2", "C3", 1])],
        [("S1", ["C1", "C2", "C3"]), *[(f"X{n}", ["C1", "C2"]) for n in range(3)]],
    ],
    ids=["by course", "others", "in parts", "twice", "twice by its key", "mostly unknown"],
)
def test_files_that_repeat_too_little_are_looked_up_as_before(
    repeated: Database, file: list[tuple[str, list[Any]]]
) -> None:
    advance(repeated, "again")
    night(repeated, "third", file, 2)
    assert noted(repeated) == 0


def test_a_student_whose_courses_are_in_two_requests_is_looked_up(repeated: Database) -> None:
    advance(repeated, "again")
    parts = [("S1", ["C1", "C2"]), ("S1", ["C3"]), *list(FILE.items())[1:]]
    night(repeated, "third", parts, 2)
    with repeated.reading() as connection:
        row = read_staged(connection, "third", 0)
    assert row is not None
    _, unchanged = unpack(row.unchanged, _fail)
    assert (list(unchanged.whole.students), list(unchanged.rest)) == ([2, 3, 4, 5], [0, 1])
    done = finish(repeated, "third")
    assert (done.absent.absent, done.batches[0].books.already_enrolled) == (0, 15)


# --- the same on two databases --------------------------------------------------------------------


class Night(NamedTuple):
    """A snapshot, and what happens while it is on its way."""

    file: Sequence[tuple[Any, Sequence[Any]]]
    minute: int
    options: dict[str, Any]
    between: Sequence[Sequence[Any]]
    """What happens before each chunk is stored, before each step of the plan, and before each chunk
    is applied, in turns."""


class Twins:
    """Two databases with the same history: on one of them, nothing is ever noted."""

    def __init__(self, noting: Database, looking: Database) -> None:
        self.noting, self.looking = noting, looking
        self.used = 0

    def clear(self) -> None:
        for database in (self.noting, self.looking):
            clear_batches(database)
            with database.writing() as connection:
                tables: list[Any] = [PlannedDropRow, PlannedRefusal, StagedChunk, PlanMember]
                for table in (*tables, PlanRow, PastEnrollment, AlsoEnrolledBy, DataSet):
                    connection.execute(delete(table))
            create_data_set(database)

    def play(self, nights: Sequence[Night]) -> None:
        for database in (self.noting, self.looking):
            self._play(database, nights)

    def _play(self, database: Database, nights: Sequence[Night]) -> None:
        feeds = Feeds(database)
        for number, each in enumerate(nights):
            turns = iter(each.between)

            def happen(turns: Iterator[Sequence[Any]] = turns, number: int = number) -> None:
                for what in next(turns, ()):
                    _happen(feeds, number, *what)

            plan_id = f"n{number}"
            for chunk in chunks_of_night(plan_id, each.file, **each.options):
                happen()
                stage(database, chunk, moment=_at(each.minute))
                if database is self.looking:
                    forget_unchanged(database)
            self.used += noted(database)
            self._advance(database, plan_id, happen)

    def _advance(self, database: Database, plan_id: str, happen: Callable[[], None]) -> None:
        work = work_on(database)

        def apply(chunk: StoredChunk) -> str | None:
            happen()
            return work.apply(chunk)

        for _ in range(30):
            happen()
            approve_if_held(database, plan_id)
            make_due(database)
            if not advance_next(work._replace(apply=apply)):
                return


def _at(minute: int) -> Any:
    return MOMENT + timedelta(minutes=minute)


def _happen(feeds: Feeds, number: int, what: str, pair: tuple[str, str], minute: int) -> None:
    moment = _at(minute)
    match what:
        case "drop":
            feeds.by_hand(moment, drop=[pair])
        case "enroll":
            feeds.by_hand(moment, enroll=[pair])
        case "undo":
            with suppress(AlreadyUndone, CannotUndo):
                undo(feeds.database, f"n{number - 1}")
        case _:
            data_set, _, drops = what.partition(" ")
            feeds.batch(data_set, [pair], moment, drops=bool(drops))


def seen(database: Database) -> dict[str, Any]:
    """Return everything that somebody may see, apart from when it was done."""
    with database.reading() as connection:
        plans = list(connection.scalars(select(PlanRow.id).order_by(PlanRow.id)))
        past = PastEnrollment
        found: dict[str, Any] = {
            "past": sorted(
                tuple(map(str, row))
                for row in connection.execute(
                    select(
                        past.student_id,
                        past.course_id,
                        past.ended_at,
                        past.enrolled_at,
                        past.reason,
                        past.request_id,
                        past.data_set,
                    )
                )
            ),
            "open": sorted(
                connection.execute(
                    select(
                        StudentCourse.student_id,
                        StudentCourse.course_id,
                        StudentCourse.enrolled_at,
                    )
                ).all()
            ),
            "refused": sorted(
                (row.batch_id, row.line, row.code, row.message, str(row.record))
                for row in connection.execute(select(*BatchRefusal.__table__.columns))
            ),
        }
    feeds = Feeds(database)
    found |= {"owners": feeds.owners(), "notes": feeds.notes()}
    found["results"] = sorted(
        (row.request_id, row.student_id, row.student_sis_id, row.status, row.enrolled, row.already)
        for row in all_results(database)
    )
    statuses = [status(database, each) for each in plans]
    found["batches"] = [(each.batch_id, each.state, each.books) for each in statuses]
    shown = {"state", "reasons", "batches", "owned_before", "absent", "courses", "applied"}
    found["plans"] = [
        plan_status(database, each).model_dump(include=shown | {"differences"}) for each in plans
    ]
    return found


PAIRS = st.tuples(st.sampled_from(STUDENTS), st.sampled_from(COURSES))
WHAT = st.sampled_from(
    ["drop", "enroll", "undo", "sis", "sis drops", "lms", "lms drops"],
)
EVENTS = st.lists(st.tuples(WHAT, PAIRS, st.integers(0, 60)), max_size=1)
OFTEN_NOTHING: st.SearchStrategy[Any] = st.one_of(st.just([]), st.just([]), EVENTS)
LISTED = st.lists(st.sampled_from([*COURSES, "C0", 1]), min_size=1, max_size=4, unique=True)
CHANGES = st.dictionaries(st.sampled_from([*STUDENTS, "S0", 2]), LISTED, max_size=2)
OPTIONS = st.fixed_dictionaries(
    {
        "size": st.sampled_from([2, 5, 10]),
        "as_columns": st.booleans(),
        "refused": st.booleans(),
        "hold": st.sampled_from([None, "always"]),
        "adopt": st.booleans(),
    }
)


@st.composite
def histories(draw: st.DrawFn) -> list[Night]:
    """Return nights of which each changes a little of the same file."""
    nights = []
    for number in range(draw(st.integers(2, 3))):
        file = list((FILE | draw(CHANGES)).items())
        between = draw(st.lists(OFTEN_NOTHING, max_size=8)) if number else []
        nights.append(Night(file, 10 + 10 * number, draw(OPTIONS), between))
    return nights


@pytest.fixture(params=["postgresql", "sqlite"])
def twins(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Twins]:
    with (
        opened_database(new_database(request.param)) as noting,
        opened_database(new_database(request.param)) as looking,
    ):
        for database in (noting, looking):
            store_roster(database, STUDENTS, COURSES)
        yield Twins(noting, looking)


def _nights(*between: Sequence[Any]) -> list[Night]:
    """Return two nights with the same file; this happens during the second one."""
    file, options = list(FILE.items()), {"size": 2}
    return [Night(file, 10, options, ()), Night(file, 20, options, between)]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories())
@example(_nights())
@example(_nights([], [("drop", ("S1", "C1"), 30)]))
@example(_nights([("sis drops", ("S1", "C1"), 30), ("sis", ("S1", "C1"), 40)]))
@example(_nights([], [], [], [("sis", ("S1", "C4"), 5)]))
@example(_nights([], [], [], [], [], [], [("drop", ("S5", "C2"), 15)]))
@example(_nights([], [], [], [], [], [], [("undo", ("S5", "C2"), 15)]))
def test_notes_change_nothing_that_is_seen(twins: Twins, nights: list[Night]) -> None:
    twins.clear()
    twins.used = 0
    twins.play(nights)
    event(f"chunks with unchanged requests: {min(twins.used, 3)}")
    assert seen(twins.noting) == seen(twins.looking)


def losses(database: Database) -> int | None:
    with database.reading() as connection:
        return connection.scalar(select(DataSet.losses))


def test_changed_ids_are_counted_when_they_are_committed(
    new_database: Callable[[str], str],
) -> None:
    """Until then, they hold up no drops; and they are counted once, however many they are."""
    with opened_database(new_database("postgresql")) as database:
        store_roster(database, STUDENTS, COURSES)
        create_data_set(database)
        Feeds(database).batch("sis", [("S2", "C2"), ("S3", "C3")], MOMENT)
        others = update(Student).where(Student.id != 2)
        with database.writing() as renaming:
            renaming.execute(others.values(sis_id="X" + Student.sis_id))
            drop_by_hand(database)
            assert losses(database) == 1
        assert losses(database) == 2


def test_rosters_are_not_touched(repeated: Database) -> None:
    """The ids of students and courses are all that a note depends on."""
    with repeated.writing() as connection:
        connection.execute(update(Student).values(name="Other"))
        connection.execute(update(Course).values(title="Other"))
    assert losses(repeated) == 0
