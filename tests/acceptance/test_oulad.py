"""Real registrations of a real university, through the queue and over HTTP, into both databases."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from support.commands import GOOD
from support.databases import count_rows, opened_database
from support.http import serving
from support.paths import TESTS
from support.waiting import wait_for
from support.workers import Deployment
from worker.models import Course, Student, StudentCourse

pytestmark = pytest.mark.timeout(300)

COURSE = "{code_module}-{code_presentation}"
FILES = [
    ("courses.csv", "courses", {"sis_id": COURSE}),
    ("studentInfo.csv", "students", {"sis_id": "{id_student}"}),
    (
        "studentRegistration.csv",
        "enrollments",
        {"student_sis_id": "{id_student}", "course_sis_id": COURSE},
    ),
]


class DataSet(NamedTuple):
    """A folder with the three files, and what they hold."""

    folder: Path
    students: int
    courses: int
    registrations: int


DATA_SETS = {
    "excerpt": DataSet(TESTS / "data" / "oulad", 84, 22, 214),
    "whole": DataSet(Path(os.environ.get("OULAD_FOLDER", "")), 28_785, 22, 32_593),
}


@pytest.fixture(params=DATA_SETS)
def oulad(request: pytest.FixtureRequest) -> DataSet:
    """Return the excerpt, which is always there, and the whole data set in `OULAD_FOLDER`.

    No package contains the whole data set, so its absence is not a failure in CI.
    """
    data_set = DATA_SETS[request.param]
    if request.param == "whole" and "OULAD_FOLDER" not in os.environ:
        pytest.skip("OULAD_FOLDER does not name a folder with the whole data set.")
    return data_set


def submit(deployment: Deployment, path: Path, kind: str, maps: dict[str, str]) -> dict[str, Any]:
    options = ["--kind", kind]
    for column, template in maps.items():
        options += ["--map", f"{column}={template}"]
    done = deployment.enroll("submit", path, *options, "--json", expect=GOOD)
    status: dict[str, Any] = json.loads(done.stdout)
    assert status["state"] == "done"
    assert status["refusals"] == []
    return status


def stored(deployment: Deployment) -> tuple[int, ...]:
    with opened_database(deployment.database_url) as database:
        return tuple(count_rows(database, of) for of in (Student, Course, StudentCourse))


def test_the_files_have_their_original_form(oulad: DataSet) -> None:
    for name, _, _ in FILES:
        lines = (oulad.folder / name).read_bytes().splitlines(keepends=True)
        assert all(line.startswith(b'"') and line.endswith(b'"\r\n') for line in lines)


def test_every_registration_is_enrolled_once(fresh_deployment: Deployment, oulad: DataSet) -> None:
    first, second = (
        [submit(fresh_deployment, oulad.folder / name, kind, maps) for name, kind, maps in FILES]
        for _ in range(2)
    )
    books = [status["books"] for status in first]
    assert [b["upserted"] for b in books] == [oulad.courses, oulad.students, 0]
    assert books[2]["enrolled"] == books[2]["received"] == oulad.registrations
    books = [status["books"] for status in second]
    assert [b["upserted"] for b in books] == [0, 0, 0]
    assert books[2]["already_enrolled"] == books[2]["received"] == oulad.registrations
    expected = (oulad.students, oulad.courses, oulad.registrations)
    assert stored(fresh_deployment) == expected


def test_oulad_through_http_gives_the_same_rows(
    fresh_deployment: Deployment, oulad: DataSet, tmp_path: Path
) -> None:
    with (
        serving(fresh_deployment.environment, tmp_path / "log") as (url, process),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        for name, kind, maps in FILES:
            query = {"kind": kind, "map": [f"{c}={t}" for c, t in maps.items()]}
            with (oulad.folder / name).open("rb") as body:
                answer = client.post("/batches", params=query, content=body)
            where = answer.headers["location"]
            wait_for(lambda w=where: client.get(w).json()["state"] == "done")  # type: ignore[misc]
        assert client.get(where).json()["books"]["enrolled"] == oulad.registrations
        print(f"server memory: {psutil.Process(process.pid).memory_info().rss >> 20} MiB")
