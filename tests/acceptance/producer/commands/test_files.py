"""Files as registrars send them, each with every line where it belongs, in both databases.

They are in `tests/data/files`, byte for byte.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import select

from producer.client import EnrollmentClient
from support.commands import GOOD, REFUSED, USAGE
from support.databases import clear_batches, enrolled_pairs, opened_database, store_roster
from support.http import serving
from support.paths import TESTS
from support.source_files import zipped
from support.waiting import wait_for
from support.workers import Deployment
from worker.database.engine import Database
from worker.models import Student

# One process of the test run starts the deployments, for all of these tests.
pytestmark = pytest.mark.xdist_group("files")

FILES = TESTS / "data" / "files"
THIRTY = [f"T{n:02d}" for n in range(1, 31)]


@pytest.fixture
def database(module_deployment: Deployment) -> Iterator[Database]:
    """The worker's database, with a roster and without enrollments."""
    with opened_database(module_deployment.database_url) as opened:
        store_roster(
            opened, [*THIRTY, "D1", "D2", "D3", "D4"], ["ALG-1", "LOGIC-1", "C-100", "C-200"]
        )
        clear_batches(opened)
        yield opened


def names(database: Database, ids: Sequence[str]) -> list[str | None]:
    """Return the stored names of students."""
    query = select(Student.sis_id, Student.name).where(Student.sis_id.in_(ids))
    with database.reading() as connection:
        found = {row.sis_id: row.name for row in connection.execute(query)}
    return [found[sis_id] for sis_id in ids]


def submit(deployment: Deployment, *arguments: str | Path, expect: int = GOOD) -> dict[str, Any]:
    """Submit and return the status of the batch, whose counts must balance."""
    done = deployment.enroll("submit", "--json", *arguments, expect=expect)
    status: dict[str, Any] = json.loads(done.stdout)
    books = status["books"]
    assert books["received"] == sum(books.values()) - books["received"]
    assert books["not_applied"] == 0
    for notice in status["notices"]:
        assert notice in done.stderr.replace("\n", "")
    return status


class Expected(NamedTuple):
    """The pairs that a file enrolls, and the lines that are refused."""

    pairs: set[tuple[str, str]]
    refused: tuple[int, ...] = ()


def logic(*students: str) -> set[tuple[str, str]]:
    return {(student, "LOGIC-1") for student in students}


ENROLLMENTS = {
    "blank-rows.csv": Expected(logic("T01", "T02")),
    "bom-inside.csv": Expected(logic("T01", "T02"), (3,)),
    "ditto-marks.csv": Expected({("D2", "ALG-1"), ("D4", "ALG-1")}, (2, 4)),
    "enrollments-with-name.csv": Expected(logic("T01")),
    "lone-cr.csv": Expected({(s, "ALG-1") for s in THIRTY if s != "T05"}, (6,)),
    "pipe.csv": Expected(logic("T01")),
    "semicolon-many-commas.csv": Expected(logic("T01")),
    "sep-line.csv": Expected(logic("T01")),
    "two-stray-quotes.csv": Expected(
        logic(*(s for s in THIRTY if s not in ("T05", "T25"))), (6, 26)
    ),
    "upper.csv": Expected(logic("T01")),
}


def refused_lines(deployment: Deployment, batch_id: str) -> tuple[int, ...]:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        return tuple(sorted({refusal.line or 0 for refusal in client.refusals(batch_id)}))


@pytest.mark.parametrize("name", ENROLLMENTS)
def test_every_line_of_a_file_of_enrollments_ends_where_it_belongs(
    module_deployment: Deployment, database: Database, name: str
) -> None:
    expected = ENROLLMENTS[name]
    options = ["--kind", "enrollments"] if name == "enrollments-with-name.csv" else []
    expect = REFUSED if expected.refused else GOOD
    status = submit(module_deployment, FILES / name, *options, expect=expect)
    assert enrolled_pairs(database) == expected.pairs
    assert status["books"]["enrolled"] == len(expected.pairs)
    assert status["books"]["rejected"] == len(expected.refused)
    assert refused_lines(module_deployment, status["batch_id"]) == expected.refused


ROSTERS = {
    "cp1252.csv": (["--encoding", "auto"], {"E1": "José Müller", "E2": "Renée O\u2019Neil"}, 1),
    "cr-only.csv": ([], {"S1": "Ada Example", "S2": "Ben Example"}, 0),
    "utf16-tab.txt": (
        [],
        {
            "S0": "Zoë",
            "E1": "José Müller",
            "E2": "Łukasz Żak",
            "E3": "\u674e\u96f7",
            "E4": "\U0001f600 Emoji",
            "E5": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05dc\u05d9\u05db\u05dd",
            "E6": "Renée O\u2019Neil",
        },
        0,
    ),
}


@pytest.mark.parametrize("name", ROSTERS)
def test_every_name_in_a_roster_is_stored_as_it_is_written(
    module_deployment: Deployment, database: Database, name: str
) -> None:
    options, students, notices = ROSTERS[name]
    status = submit(module_deployment, FILES / name, *options)
    books = status["books"]
    assert books["received"] == books["upserted"] + books["unchanged"] == len(students)
    assert names(database, list(students)) == list(students.values())
    assert len(status["notices"]) == notices


def test_lines_in_cp1252_are_refused_unless_it_is_asked_for(
    module_deployment: Deployment, database: Database
) -> None:
    status = submit(module_deployment, FILES / "cp1252.csv", expect=REFUSED)
    assert status["refusals"][0]["first_lines"] == [2, 3]
    assert "cell 2 is not UTF-8; save the file as UTF-8" in status["refusals"][0]["example"]


def test_the_files_of_canvas_are_mapped(module_deployment: Deployment, database: Database) -> None:
    users, courses, enrollments = (
        FILES / f"canvas-{name}.csv" for name in ("users", "courses", "enrollments")
    )
    status = submit(
        module_deployment,
        users,
        *("--kind", "students", "--map", "sis_id={user_id}"),
        *("--map", "name={first_name} {last_name}", "--format", "plain"),
    )
    assert status["books"]["received"] == 3
    assert names(database, ["u01", "u02", "u03"]) == ["Ada Example", "Ben Example", "Cy Example"]
    status = submit(
        module_deployment,
        courses,
        "--map",
        "sis_id={course_id}",
        "--map",
        "title={long_name}",
        "--kind",
        "courses",
    )
    assert status["books"]["received"] == 2
    status = submit(
        module_deployment,
        enrollments,
        *("--map", "student_sis_id={user_id}", "--map", "course_sis_id={course_id}"),
        *("--format", "plain"),
    )
    assert status["books"]["enrolled"] == 4
    # Roles and states are ignored, because the submitter says that it is a file of our own.
    assert enrolled_pairs(database) == {
        ("u01", "C-100"),
        ("u02", "C-200"),
        ("u03", "C-100"),
        ("u01", "C-200"),
    }


def test_sections_of_canvas_are_courses_too(
    module_deployment: Deployment, database: Database
) -> None:
    options = ("--kind", "courses", "--map", "sis_id={section_id}", "--map", "title={name}")
    status = submit(module_deployment, FILES / "canvas-sections.csv", *options)
    assert status["books"]["received"] == 1


def late_bad_byte() -> bytes:
    """Return a file in which a byte of a column that is not ours is wrong, after the head."""
    lines = ["student_sis_id,course_sis_id,note", "T01,LOGIC-1,x", "T02,LOGIC-1,x"]
    lines += [f"T04,LOGIC-1,{'x' * 60}"] * 2_000 + ["T03,LOGIC-1,Jos\udce9", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("chosen", [None, "auto", "cp1252"])
def test_a_bad_byte_late_in_a_file_does_not_affect_other_lines(
    module_deployment: Deployment, database: Database, tmp_path: Path, chosen: str | None
) -> None:
    path = tmp_path / "late.csv"
    path.write_bytes(late_bad_byte())
    options = ["--encoding", chosen] if chosen else []
    status = submit(module_deployment, path, *options, expect=GOOD if chosen else REFUSED)
    assert enrolled_pairs(database) == logic("T01", "T02", "T04", *(["T03"] if chosen else []))
    assert [group["first_lines"] for group in status["refusals"]] == ([] if chosen else [[2_004]])
    assert len(status["notices"]) == (chosen == "auto")


@pytest.mark.parametrize("how", ["gzip", "zip", "gzip on a pipe", "zip on a pipe"])
def test_a_compressed_file_is_submitted_like_the_table_in_it(
    module_deployment: Deployment, database: Database, tmp_path: Path, how: str
) -> None:
    text = (FILES / "two-stray-quotes.csv").read_bytes()
    packed = gzip.compress(text) if "gzip" in how else zipped(("a/pairs.csv", text))
    path = tmp_path / "pairs.csv"  # The content counts, not the name.
    path.write_bytes(packed)
    given = packed if "pipe" in how else None
    done = module_deployment.enroll(
        "submit", "--json", "-" if given else path, given=given, expect=REFUSED
    )
    status = json.loads(done.stdout)
    assert status["refusals"][0]["first_lines"] == [6, 26]
    assert enrolled_pairs(database) == ENROLLMENTS["two-stray-quotes.csv"].pairs


def test_a_damaged_file_publishes_nothing(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv.gz"
    good.write_bytes((FILES / "pipe.csv").read_bytes())
    bad.write_bytes(gzip.compress((FILES / "lone-cr.csv").read_bytes())[:-9])
    done = module_deployment.enroll("submit", good, bad, expect=USAGE)
    assert "bad.csv.gz is incomplete: its compressed data ends too early" in done.stderr
    assert enrolled_pairs(database) == set()


def test_the_same_forms_are_read_over_http(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    western = (FILES / "cp1252.csv").read_bytes()
    with (
        serving(module_deployment.environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):

        def post(content: bytes, **query: str) -> tuple[dict[str, Any], dict[str, Any]]:
            answer = client.post("/batches", content=content, params=query)
            assert answer.status_code == 202, answer.text
            where = answer.headers["location"]
            wait_for(lambda: client.get(where).json()["state"] == "done")
            return answer.json(), client.get(where).json()

        for content in (gzip.compress(western), zipped(("a.csv", western)), western):
            accepted, status = post(content, encoding="cp1252")
            assert (accepted["rows"], accepted["notices"]) == (2, [])
            assert status["books"]["rejected"] == 0
            assert names(database, ["E1", "E2"]) == ["José Müller", "Renée O\u2019Neil"]
        for content in (zipped(("a.csv", western)), western):
            accepted, status = post(content, encoding="auto")
            assert "read as cp1252" in accepted["notices"][0]
            assert status["books"]["rejected"] == 0
        for content, encoding, words in (
            (western, "rot13", "There is no encoding 'rot13'"),
            (gzip.compress(western)[:-9], "cp1252", "The file is incomplete"),
            (zipped(("a", western), ("b", western)), "cp1252", "2 files: a, b"),
        ):
            answer = client.post("/batches", content=content, params={"encoding": encoding})
            assert answer.status_code == 422
            assert words in answer.json()["detail"]
