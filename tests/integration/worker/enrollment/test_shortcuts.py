"""The shortcut for the clean requests of a chunk agrees with the rulebook. On both databases."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from producer.contract.chunks import COURSE_FIELDS, line_request_id
from producer.contract.plan_requests import PlanRequest
from producer.schemas import Action, Kind, StudentEnrollmentRequest
from support.derived import store_derived_results
from worker import repository as enrollments
from worker.batches.apply import Applied, ChunkOutcome, apply_to, read_chunk
from worker.data_sets.repository import add_notes, begin_sweep, data_set_key
from worker.database import sets
from worker.database.engine import Database
from worker.enrollment import clean_results, shortcuts
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.shortcuts import (
    ShortcutResult,
    decide_clean_requests,
    find_clean_requests,
)
from worker.enrollment.values import Times
from worker.intervals.repository import keep_drops
from worker.intervals.values import Drop
from worker.models import Pair
from worker.plans.repository import add_plan
from worker.repository import insert_enrollments
from worker.service import add_enrollments

AWKWARD = ["back\\slash", "tab\tnew\nline\r", "\\N", '"quotes\'"', "Zoë 🎓\u2028", "NULL", "{,}"]
"""SIS ids of the roster's students and courses, whose keys are 1 to 7."""

BATCH = 'b\\N\t"ø'
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

_Request = tuple[Any, list[Any]]
"""A student and the courses to enroll in, as ids."""

TABLES = {
    "student_courses": "student_id, course_id, enrolled_at < '2021-01-01', data_set",
    "enrollment_results": "request_id, batch_id, fingerprint, student_id, student_sis_id, status,"
    " enrolled, already, errors, dropped, not_enrolled, superseded, reason, line",
    "past_enrollments": "student_id, course_id, ended_at, enrolled_at, reason, request_id,"
    " data_set",
    "also_enrolled_by": "student_id, course_id, data_set, moment",
    "planned_drops": "student_id, course_id, expected, outcome",
    "batches": "id, kind, data_set",
    "batch_chunks": "batch_id, number, fingerprint, last, requests_through, rows_through, requests,"
    " requests_rejected, rows, enrolled, already_enrolled, dropped, not_enrolled, superseded,"
    " upserted, unchanged, rejected, lines",
    "batch_refusals": "batch_id, line, code, message, record, cells",
    "dead_letters": "request_id, batch_id, reason",
}
"""Return what must agree: every column except moments and generated keys."""


class Effect(NamedTuple):
    """What a chunk did to the database, and what its delivery reports."""

    applied: Applied
    tables: dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "postgresql-large"])
def roster(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[Database]:
    """A database with the students and courses of AWKWARD; every test leaves it as it was.

    For "large", each chunk is treated like one that is large enough for COPY.
    """
    dialect, _, is_large = request.param.partition("-")
    made = Database(new_database(dialect))
    add_roster(made, students=AWKWARD, courses=AWKWARD)
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(enrollments, "SAMPLE_SIZE", 1)
            for module in (shortcuts, clean_results, sets, enrollments):
                patch.setattr(module, "COPY_ROWS", 1)
        yield made
    made.close()


def add_roster(database: Database, *, students: Sequence[str], courses: Sequence[str]) -> None:
    """Add students and courses whose keys are their positions in these lists, from 1."""
    with database.writing() as connection:
        for table, names in (("students", students), ("courses", courses)):
            rows = [{"id": key, "name": name} for key, name in enumerate(names, 1)]
            connection.execute(text(f"INSERT INTO {table} (id, sis_id) VALUES (:id, :name)"), rows)  # noqa: S608


ADOPTING = {
    "id": BATCH,
    "members": [{"batch_id": BATCH, "kind": "enrollments"}],
    "purpose": "apply",
    "snapshot": True,
    "adopt": True,
}
"""What a chunk says of its plan if its data set takes the enrollments without an owner."""


class Past(NamedTuple):
    """What the database holds before the chunk."""

    rows: frozenset[Pair] = frozenset()
    request_ids: tuple[str, ...] = ()
    dropped: frozenset[Pair] = frozenset()
    """Pairs without a row that were dropped before the chunk counts."""
    dropped_later: frozenset[Pair] = frozenset()
    confirmed: bool = False
    """True if a request confirmed a row later than the chunk counts."""
    foreign: frozenset[Pair] = frozenset()
    """Those of the rows that belong to another data set than the chunk's, and are noted by a
    third one."""
    swept: bool = False
    """True if a snapshot of the chunk's data set counts later than the chunk."""


NOTHING = Past()


@contextmanager
def rolled_back(database: Database, past: Past, *, has_plan: bool) -> Iterator[Connection]:
    """Open a transaction that sees these earlier rows; everything in it is rolled back."""
    with database.engine.connect() as connection, connection.begin() as transaction:
        own, other, third = (data_set_key(connection, n, LONG_AGO) for n in ("own", "b", "c"))
        owners = dict.fromkeys(past.rows & past.foreign, other)
        insert_enrollments(connection, dict.fromkeys(past.rows, LONG_AGO), owners)
        add_notes(connection, third, dict.fromkeys(owners, LONG_AGO))
        if has_plan:
            plan = {"id": BATCH, "moment": NOW, "staged_at": NOW}
            add_plan(connection, plan, PlanRequest.model_validate(ADOPTING))
        if past.swept:
            begin_sweep(connection, own, NOW + HOUR)
        request = StudentEnrollmentRequest(student_id=1, course_ids=(7,))
        earlier = [IncomingRequest(request_id, {}, request) for request_id in past.request_ids]
        if earlier:
            add_enrollments(connection, earlier, clock=lambda: LONG_AGO)
        absent = dict.fromkeys(past.dropped, LONG_AGO)
        absent |= dict.fromkeys(past.dropped_later, NOW + HOUR)
        drops = {pair: Drop(at, None, "earlier") for pair, at in absent.items()}
        keep_drops(connection, {p: drop for p, drop in drops.items() if p not in past.rows})
        if past.confirmed and past.rows:
            student, course = min(past.rows)
            confirming = StudentEnrollmentRequest(student_id=student, course_ids=(course,))
            later = IncomingRequest("later", {}, confirming, moment=NOW + HOUR, is_dated=True)
            add_enrollments(connection, [later], clock=lambda: NOW + HOUR)
        yield connection
        transaction.rollback()


def effect_of(database: Database, payload: Any, past: Past) -> Effect:
    """Apply a chunk, return everything that it did, and roll it back."""
    chunk, fingerprint = read_chunk(Kind.ENROLLMENTS, payload)
    with rolled_back(database, past, has_plan=chunk.plan is not None) as connection:
        applied = apply_to(connection, Kind.ENROLLMENTS, chunk, fingerprint, {}, clock=lambda: NOW)
        assert applied.outcome is ChunkOutcome.APPLIED
        store_derived_results(connection)
        tables = {
            table: sorted(
                (tuple(row) for row in connection.execute(text(f"SELECT {names} FROM {table}"))),  # noqa: S608
                key=repr,
            )
            for table, names in TABLES.items()
        }
    return Effect(applied, tables)


def assert_same_without_the_shortcut(database: Database, payload: Any, past: Past) -> Effect:
    with_shortcut = effect_of(database, payload, past)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "_order_matters", lambda *_, **__: True)
        by_the_rulebook = effect_of(database, payload, past)
    assert with_shortcut == by_the_rulebook
    return with_shortcut


def shortcut_of(
    database: Database, payload: Any, past: Past = NOTHING, poison: Collection[int] = ()
) -> ShortcutResult:
    """Return what the shortcut does for a chunk, and roll it back."""
    chunk, _ = read_chunk(Kind.ENROLLMENTS, payload)
    with rolled_back(database, past, has_plan=chunk.plan is not None) as connection:
        times = Times(NOW, NOW, NOW, NOW)
        clean = find_clean_requests(connection, chunk, poison, times)
        done = decide_clean_requests(connection, chunk, clean, times, derives=True)
        assert sorted(done.pairs) == (sorted(clean.requests.pairs) if done.requests else [])
        return done._replace(fresh=None, pairs=())


# --- Any chunk --------------------------------------------------------------------------------

numbers = st.integers(1, len(AWKWARD))
"""The keys of the roster."""


def spelled(keys: st.SearchStrategy[int]) -> st.SearchStrategy[int | str]:
    """Return a strategy that names a student or course by its key or by its SIS id."""
    return st.builds(lambda key, by_key: key if by_key else AWKWARD[key - 1], keys, st.booleans())


@st.composite
def clean_requests(draw: st.DrawFn) -> list[_Request]:
    """Draw requests for students and courses that exist, each row once."""
    students = draw(st.lists(numbers, unique=True, max_size=6))
    courses = [draw(st.lists(numbers, unique=True, min_size=1, max_size=3)) for _ in students]
    return [
        (draw(spelled(st.just(student))), [draw(spelled(st.just(course))) for course in wanted])
        for student, wanted in zip(students, courses, strict=True)
    ]


unknown = st.sampled_from(["nobody", "1", 99])
refused_requests = st.tuples(unknown, st.lists(spelled(numbers), min_size=1, max_size=2)) | (
    st.builds(
        lambda student, good, bad: (student, [*good, bad]),
        spelled(numbers),
        st.lists(spelled(numbers), max_size=2),
        unknown,
    )
)
any_requests = st.lists(
    st.tuples(spelled(numbers), st.lists(spelled(numbers), min_size=1, max_size=3)), max_size=6
)
request_lists = (
    any_requests
    | clean_requests()
    | st.builds(
        lambda clean, refused, place: [*clean[:place], *refused, *clean[place:]],
        clean_requests(),
        st.lists(refused_requests, max_size=2),
        st.integers(0, 6),
    )
)
bad_records = st.sampled_from(
    [
        "what is this",
        None,
        {"student_id": 1.5, "course_ids": ["\\N", 2]},
        {"student_id": "NULL", "course_ids": [], "request_id": "r0"},
        {"student_id": "NULL", "course_ids": [1], "surprise": "\t"},
    ]
)


def columns_of(
    request_list: Sequence[_Request], *, atomic: bool, action: Action = Action.ENROLL
) -> dict[str, Any]:
    students, courses = [r[0] for r in request_list], [r[1] for r in request_list]
    field = COURSE_FIELDS[action]
    return {"requests": {"student_ids": students, field: courses, "atomic": atomic}}


@st.composite
def forms(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the requests of a chunk, as columns or as records, some of which may be bad."""
    request_list = draw(request_lists)
    are_atomic = draw(st.booleans())
    with_bad = draw(st.booleans())
    if draw(st.booleans()):
        # This one breaks the contract, so each request is checked on its own.
        bad: list[_Request] = [(True, ["NULL"])] if with_bad else []
        action = draw(st.sampled_from(Action))
        return columns_of([*request_list, *bad], atomic=are_atomic, action=action)
    with_ids = draw(st.sampled_from([False, False, False, True]))
    made: list[Any] = []
    for student, courses in request_list:
        field = draw(st.sampled_from(["course_ids", "course_ids", "drop_course_ids"]))
        record = {"student_id": student, field: courses}
        if not are_atomic:
            record["atomic"] = draw(st.booleans())
        if with_ids and (own_id := draw(st.sampled_from([None, "r0", "r1"]))):
            record["request_id"] = own_id
        made.append(record)
        if with_bad and draw(st.booleans()):
            made.append(draw(bad_records))
    return {"records": made}


past_rows = st.frozensets(st.tuples(st.integers(1, 7), st.integers(1, 7)), max_size=20)
past_ids = st.lists(
    st.sampled_from(["r0", line_request_id(BATCH, 0, 1), line_request_id(BATCH, 1, 0)]),
    unique=True,
    max_size=1,
).map(tuple)


def with_lines(form: dict[str, Any], kind: str) -> dict[str, Any]:
    """Give a chunk its lines: none, one for each record, or one for each row."""
    payload = {"batch_id": BATCH, "number": 0, "last": True, **form}
    chunk, _ = read_chunk(Kind.ENROLLMENTS, payload)
    count = len(chunk.row_counts) if kind == "records" else sum(chunk.row_counts)
    if kind == "none":
        return payload
    cells = [[f"cell\t{line}", "\\N"] for line in range(count)]
    return {**payload, "lines": [2 * line + 5 for line in range(count)], "cells": cells}


@settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    form=forms(),
    lines=st.sampled_from(["none", "records", "rows"]),
    as_text=st.booleans(),
    data_set=st.sampled_from([{}, {"data_set": "own"}, {"data_set": "own", "plan": ADOPTING}]),
    past=st.builds(
        Past, past_rows, past_ids, past_rows, past_rows, st.booleans(), past_rows, st.booleans()
    )
    | st.builds(
        Past,
        past_rows,
        past_ids,
        past_rows,
        st.just(frozenset()),
        st.just(value=False),
        past_rows,
        st.just(value=False),
    ),
)
def test_a_chunk_has_the_same_effect_with_the_shortcut_and_without(
    roster: Database,
    form: dict[str, Any],
    lines: str,
    as_text: bool,
    data_set: dict[str, Any],
    past: Past,
) -> None:
    payload = with_lines(form, lines) | data_set
    event(f"taken: {shortcut_of(roster, payload, past).requests > 0}")
    assert_same_without_the_shortcut(roster, json.dumps(payload) if as_text else payload, past)


# --- Is it taken? -----------------------------------------------------------------------------


def records(*requests: _Request, **more: Any) -> dict[str, Any]:
    made = [{"student_id": s, "course_ids": c, **more} for s, c in requests]
    return {"batch_id": BATCH, "number": 0, "records": made}


def columns(*requests: _Request, atomic: bool = True) -> dict[str, Any]:
    return {"batch_id": BATCH, "number": 0, **columns_of(requests, atomic=atomic)}


def drops(*requests: _Request) -> dict[str, Any]:
    made = columns_of(requests, atomic=True, action=Action.DROP)
    return {"batch_id": BATCH, "number": 0, **made}


def taken(requests: int, rows: int, changed: int, rest: Sequence[int] = ()) -> ShortcutResult:
    return ShortcutResult(Action.ENROLL, requests, rows, changed, rest)


@pytest.mark.parametrize("form", [records, columns])
def test_every_request_of_a_clean_chunk_takes_the_shortcut(
    roster: Database, form: Callable[..., Any]
) -> None:
    payload = form(("\\N", [1, "NULL"]), (1, ["{,}", 3]), ("NULL", [1]))
    past = Past(frozenset({(3, 1), (1, 7)}))
    assert shortcut_of(roster, payload, past) == taken(requests=3, rows=5, changed=3, rest=[])
    assert_same_without_the_shortcut(roster, payload, past)


@pytest.mark.parametrize("form", [records, columns])
def test_only_refused_requests_are_left_to_the_rulebook(
    roster: Database, form: Callable[..., Any]
) -> None:
    payload = form((1, [1]), ("nobody", [1]), (2, [1, "nothing"]), (2, [1]), (99, [1]), (3, [99]))
    assert shortcut_of(roster, payload) == taken(2, rows=2, changed=2, rest=[1, 2, 4, 5])
    effect = assert_same_without_the_shortcut(roster, payload, NOTHING)
    assert [row[:2] for row in effect.tables["student_courses"]] == [(1, 1), (2, 1)]


def test_a_refused_request_without_rows_does_not_exclude_the_others(roster: Database) -> None:
    payload = columns((1, [1]), ("nobody", [1]), (3, [99]), atomic=False)
    assert shortcut_of(roster, payload) == taken(1, 1, 1, rest=[1, 2])
    assert_same_without_the_shortcut(roster, payload, NOTHING)


def test_a_record_that_breaks_the_contract_is_left_to_the_rulebook(roster: Database) -> None:
    payload = records((1, [1]), (2.5, [1]), (3, [1]))
    assert shortcut_of(roster, payload) == taken(2, 2, 2, rest=[1])


@pytest.mark.parametrize(
    ("payload", "past"),
    [
        (records((1, [1]), ("back\\slash", [2, 1])), NOTHING),
        (records((1, [1, "back\\slash"])), NOTHING),
        (columns((1, [1]), (2, [1, "nothing"]), atomic=False), NOTHING),
        (records((1, [1, "nothing"]), (1, [1]), atomic=False), NOTHING),
        (records((1, [1]), (2, [1]), request_id="own"), NOTHING),
        (records((1, [1]), (2, [1])), Past(request_ids=(line_request_id(BATCH, 0, 5),))),
    ],
    ids=[
        "a row twice",
        "a course twice",
        "a partial request as columns",
        "a partial request as a record",
        "own ids",
        "earlier results",
    ],
)
def test_all_requests_are_left_to_the_rulebook_if_their_order_matters(
    roster: Database, payload: dict[str, Any], past: Past
) -> None:
    count = len(read_chunk(Kind.ENROLLMENTS, payload)[0].row_counts)
    assert shortcut_of(roster, payload, past) == taken(0, 0, 0, rest=range(count))
    assert_same_without_the_shortcut(roster, payload, past)


def test_poison_leaves_all_requests_to_the_rulebook(roster: Database) -> None:
    left = shortcut_of(roster, records((1, [1]), (2, [1])), poison={1})
    assert left == taken(0, 0, 0, rest=range(2))


def test_clean_drops_take_the_shortcut(roster: Database) -> None:
    payload = drops(("\\N", [1, "NULL"]), (1, ["{,}", 3]), ("nobody", [1]))
    past = Past(frozenset({(3, 1), (1, 7), (5, 5)}), dropped=frozenset({(1, 3)}))
    done = shortcut_of(roster, payload, past)
    assert done == ShortcutResult(Action.DROP, requests=2, rows=4, changed=2, rest=[2])
    effect = assert_same_without_the_shortcut(roster, payload, past)
    assert [row[:2] for row in effect.tables["student_courses"]] == [(5, 5)]
    assert len(effect.tables["past_enrollments"]) == 4


@pytest.mark.parametrize(
    ("payload", "past"),
    [
        (drops((1, [1]), (2, [2])), Past(frozenset({(1, 1)}), confirmed=True)),
        (drops((1, [1]), (2, [2])), Past(dropped_later=frozenset({(2, 2)}))),
        (columns((1, [1]), (2, [2])), Past(dropped_later=frozenset({(2, 2)}))),
    ],
    ids=["a confirmed drop", "a repeated drop", "an enrollment that was dropped"],
)
def test_a_later_request_leaves_all_requests_to_the_rulebook(
    roster: Database, payload: dict[str, Any], past: Past
) -> None:
    assert shortcut_of(roster, payload, past).requests == 0
    assert_same_without_the_shortcut(roster, payload, past)


def test_a_result_of_another_chunk_does_not_prevent_the_shortcut(roster: Database) -> None:
    past = Past(request_ids=(line_request_id(BATCH, 1, 0), line_request_id(BATCH + "!", 0, 0)))
    assert shortcut_of(roster, records((1, [1])), past).requests == 1


# --- Many at once -----------------------------------------------------------------------------

MANY = 320
"""Return requests with more than 200 rows, so that PostgreSQL's COPY is used."""


@pytest.mark.parametrize("form", [records, columns])
def test_a_large_chunk_has_the_same_effect_with_the_shortcut_and_without(
    database: Database, form: Callable[..., Any]
) -> None:
    names = [f"{AWKWARD[n % len(AWKWARD)]}{n}" for n in range(MANY)]
    add_roster(database, students=names, courses=AWKWARD)
    keys = {name: key for key, name in enumerate(names, 1)}
    good = [(name, [AWKWARD[keys[name] % 5], 6]) for name in names]
    refused: list[_Request] = [("nobody\\N", [1]), (1, [7, "nothing\t"])]
    past = Past(frozenset((key, 6) for key in keys.values() if key % 7 == 0))
    payload = form(*good[:100], *refused, *good[100:])
    assert shortcut_of(database, payload, past).rest == [100, 101]
    effect = assert_same_without_the_shortcut(database, payload, past)
    expected = {(key, course) for key in keys.values() for course in (key % 5 + 1, 6)}
    rows = effect.tables["student_courses"]
    assert {(student, course) for student, course, *_ in rows} == expected
    assert {(student, course) for student, course, before, _ in rows if before} == past.rows
    added, already = len(expected) - len(past.rows), len(past.rows)
    counts = effect.applied.counts
    assert (counts["enrolled"], counts["already_enrolled"], counts["rejected"]) == (
        added,
        already,
        3,
    )
    enrolled = [row for row in effect.tables["enrollment_results"] if row[5] == "enrolled"]
    assert {(row[3], row[4]) for row in enrolled} == {(keys[name], name) for name in names}
    assert {row[1] for row in enrolled} == {BATCH}
    found_there = {(row[3], 6) for row in enrolled if row[7] in ([6], "[6]")}
    assert found_there == past.rows


def test_a_large_chunk_of_drops_has_the_same_effect_with_the_shortcut_and_without(
    database: Database,
) -> None:
    names = [f"{AWKWARD[n % len(AWKWARD)]}{n}" for n in range(MANY)]
    add_roster(database, students=names, courses=AWKWARD)
    keys = range(1, MANY + 1)
    enrolled = frozenset((key, 6) for key in keys if key % 7)
    absent = frozenset((key, 5) for key in keys if key % 3 == 0)
    past = Past(enrolled, dropped=absent)
    payload = drops(*((key, [6, 5]) for key in keys), ("nobody", [1]))
    assert shortcut_of(database, payload, past).rest == [MANY]
    effect = assert_same_without_the_shortcut(database, payload, past)
    assert effect.tables["student_courses"] == []
    counts = effect.applied.counts
    assert (counts["dropped"], counts["not_enrolled"], counts["rejected"]) == (
        len(enrolled),
        2 * MANY - len(enrolled),
        1,
    )
    assert len(effect.tables["past_enrollments"]) == 2 * MANY
