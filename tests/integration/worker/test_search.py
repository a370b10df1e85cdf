"""A search finds the same on both databases, and in memory, whatever the locale of the server."""

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.schemas import Kind
from producer.testing import FakeEnrollmentClient
from support.chunks import apply_chunk, chunk
from worker.database.engine import Database
from worker.roster import lookups
from worker.roster.lookups import SearchTooLong, find_courses, find_students

STUDENTS: list[dict[str, Any]] = [
    {"sis_id": "S1", "name": "Émile Zola", "email": "Emile.Zola@Uni.example"},
    {"sis_id": "s1", "name": "S1 Zoë"},
    {"sis_id": "S2", "name": "Zola, Émilie", "email": "s1"},
    {"sis_id": "É-1", "name": "100% [sure]_x*"},
    {"sis_id": "a%b", "name": "Søren ÅSTRÖM", "email": "100%"},
    {"sis_id": "S3"},
    {"sis_id": "x?y", "name": "Юлия Иванова ΣΟΦΙΑ"},
    {"sis_id": "(S4|S5)", "name": "O'Brien \\d {2} ^$ . -]"},
    {"sis_id": "0004300", "name": "Ada, Countess 4307"},
    {"sis_id": "4300", "name": "Nadia O\u2019Neil"},
    {"sis_id": "00", "name": "Zero"},
    {"sis_id": "04300.0", "name": "Dotted"},
]
COURSES = [
    {"sis_id": "LOGIC-1", "title": "Introduction to Logic"},
    {"sis_id": "logic-1", "title": "Ästhetik und Logik"},
    {"sis_id": "C3"},
    {"sis_id": "0101", "title": "History"},
]


@pytest.fixture
def roster(database: Database) -> Database:
    apply_chunk(database, Kind.STUDENTS, chunk(*STUDENTS, batch_id="s"))
    apply_chunk(database, Kind.COURSES, chunk(*COURSES, batch_id="c"))
    return database


def found(database: Database, text: str, limit: int = 20) -> list[str]:
    return [student.sis_id for student in find_students(database, text, limit).students]


@pytest.mark.parametrize(
    ("text", "sis_ids"),
    [
        ("S1", ["S1", "s1", "S2"]),
        (" s1 ", ["s1", "S1", "S2"]),
        ("s3", ["S3"]),
        ("é-1", ["É-1"]),
        ("EMILE.ZOLA@UNI.EXAMPLE", ["S1"]),
        ("émile", ["S1"]),
        ("ÉMIL", ["S1", "S2"]),
        ("zola  émil", ["S1", "S2"]),
        ("ZOË", ["s1"]),
        ("åström søREN", ["a%b"]),
        ("юлия σοφια", ["x?y"]),
        ("100%", ["a%b", "É-1"]),
        ("%", ["É-1"]),
        ("_", ["É-1"]),
        ("*", ["É-1"]),
        ("[SURE]", ["É-1"]),
        ("?", []),
        ("X?Y", ["x?y"]),
        ("(s4|s5)", ["(S4|S5)"]),
        ("S4", []),
        ("\\D", ["(S4|S5)"]),
        (".", ["(S4|S5)"]),
        ("^$ {2} -]", ["(S4|S5)"]),
        ("o'brien", ["(S4|S5)"]),
        ("o\u2019brien", ["(S4|S5)"]),
        ("o'neil", ["4300"]),
        ("Zola, Émil", ["S1", "S2"]),
        ("COUNTESS,ada", []),
        ("emile", ["S1"]),
        ("emil zola", ["S1", "S2"]),
        ("soren astrom", ["a%b"]),
        ("zoe", ["s1"]),
        ("zöla", []),
        ("e-1", ["É-1"]),
        (",", ["0004300", "S2"]),
        ("4300", ["4300", "0004300"]),
        ("0004300", ["0004300", "4300"]),
        ("04300", ["0004300", "4300"]),
        ("4300.0", ["0004300", "4300"]),
        ("4307", ["0004300"]),
        ("0", ["0004300", "É-1"]),
        ("000", []),
        ("S999", []),
    ],
)
def test_students_are_found_by_id_address_and_name(
    roster: Database, text: str, sis_ids: list[str]
) -> None:
    assert found(roster, text) == sis_ids


def test_a_search_shows_what_is_stored_and_whether_there_is_more(roster: Database) -> None:
    answer = find_students(roster, "emile.zola@uni.example", 1)
    (student,) = answer.students
    assert (student.sis_id, student.name, student.email) == tuple(STUDENTS[0].values())
    assert not answer.more
    assert find_students(roster, "zola", 1).more
    assert not find_students(roster, "zola", 2).more
    courses = find_courses(roster, "logi", 20)
    assert [(c.sis_id, c.title) for c in courses.courses] == [
        ("LOGIC-1", "Introduction to Logic"), ("logic-1", "Ästhetik und Logik"),
    ]  # fmt: skip
    assert [c.sis_id for c in find_courses(roster, "LOGIC-1", 20).courses] == ["LOGIC-1", "logic-1"]
    assert [c.sis_id for c in find_courses(roster, "ästhetik", 20).courses] == ["logic-1"]
    assert [c.sis_id for c in find_courses(roster, "101", 20).courses] == ["0101"]


WORDS = st.sampled_from(
    [
        "s1",
        "Émil",
        "zo",
        "ZOLA",
        "%",
        "_",
        "\\",
        "[",
        "]",
        "^",
        "$",
        "-",
        "1",
        "04300",
        ",",
        "'",
        "emil",
        "ZOE",
    ]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WORDS | st.text(max_size=3), min_size=1, max_size=4).map(" ".join))
def test_a_search_in_memory_finds_the_same(roster: Database, text: str) -> None:
    text = text.replace("\0", "").encode("utf-8", "ignore").decode().strip()[:255] or "x"
    client = FakeEnrollmentClient()
    client.submit_batch("students", STUDENTS)
    expected = [student.sis_id for student in client.find_students(text).students]
    assert found(roster, text) == expected


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_roster_is_looked_through_a_part_at_a_time(
    roster: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(lookups, "KEYS_AT_ONCE", at_once)
    assert found(roster, "s1") == ["s1", "S1", "S2"]
    assert found(roster, "s1", 1) == ["s1"]


def test_a_search_that_takes_too_long_ends_but_an_exact_id_is_always_found(
    roster: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "SEARCH_SECONDS", -1.0)
    with pytest.raises(SearchTooLong, match="search for the whole SIS id"):
        find_students(roster, "zola", 20, time.monotonic)
    answer = find_students(roster, "S3", 20)
    assert ([student.sis_id for student in answer.students], answer.more) == (["S3"], True)


def test_no_time_for_accents_is_no_error(roster: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "KEYS_AT_ONCE", 1_000_000)
    assert found(roster, "emile") == ["S1"]
    times = iter([0.0, 0.0, 99.0])  # The first scan is in time, and the second one is not.
    answer = find_students(roster, "emile", 20, lambda: next(times))
    assert (answer.students, answer.more) == ((), True)


def test_an_empty_roster_has_no_matches(database: Database) -> None:
    assert find_students(database, "x", 20).students == ()
