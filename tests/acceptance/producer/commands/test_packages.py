"""A package of another system is one submission: rosters first, then enrollments and drops."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from support.commands import GOOD
from support.databases import clear_batches, enrolled_pairs, opened_database, store_roster
from support.http import serving
from support.packages import zipped_package
from support.waiting import wait_for
from support.workers import Deployment
from worker.database.engine import Database
from worker.models import Student

pytestmark = pytest.mark.xdist_group("packages")

PACKAGE = {
    "manifest.csv": ["propertyName,value", "oneroster.version,1.2", "file.enrollments,bulk"],
    "users.csv": [
        "sourcedId,status,enabledUser,username,givenName,familyName,email",
        "u-1,,true,ada,Ada,Lovelace,ada@school.test",
        "u-2,,true,alan,Alan,Turing,",
        "u-3,,true,grace,Grace,Hopper,",
    ],
    "roles.csv": [
        "sourcedId,status,userSourcedId,roleType,role",
        "r-1,,u-1,primary,student",
        "r-2,,u-2,primary,student",
        "r-3,,u-3,primary,teacher",
    ],
    "classes.csv": [
        "sourcedId,status,title,classType",
        "c-1,,Algebra,scheduled",
        "c-2,,Biology,scheduled",
    ],
    "enrollments.csv": [
        "sourcedId,status,classSourcedId,schoolSourcedId,userSourcedId,role,beginDate,endDate",
        "e-1,,c-1,o-1,u-1,student,,",
        "e-2,tobedeleted,c-1,o-1,u-2,student,,",
        "e-3,,c-2,o-1,u-2,student,,",
        "e-4,,c-2,o-1,u-3,teacher,,",
        "e-5,tobedeleted,c-2,o-1,u-2,student,,",
    ],
}


@pytest.fixture
def database(module_deployment: Deployment) -> Iterator[Database]:
    """The worker's database, without the students and courses of the package."""
    with opened_database(module_deployment.database_url) as opened:
        store_roster(opened, ["X"], ["Y"])
        clear_batches(opened)
        yield opened


def students(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(connection.execute(select(Student.sis_id)).scalars()) - {"X"}


def test_the_command_submits_a_package_as_one(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    path = zipped_package(PACKAGE, tmp_path / "export.zip")
    options = ["--json", "--batch-id", "night"]
    done = module_deployment.enroll("submit", path, *options, expect=GOOD)
    batches = [json.loads(line) for line in done.stdout.splitlines()]
    assert [batch["batch_id"] for batch in batches] == [
        "night:students",
        "night:courses",
        "night:enrollments",
    ]
    # A pair that is active in one line and ended in another is enrolled.
    assert enrolled_pairs(database) == {("u-1", "c-1"), ("u-2", "c-2")}
    assert students(database) == {"u-1", "u-2"}
    assert "1 'teacher'" in done.stderr
    books = batches[-1]["books"]
    assert (books["received"], books["enrolled"], books["rejected"]) == (4, 2, 0)


def test_the_same_package_over_http_names_its_batches(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    path = zipped_package(PACKAGE, tmp_path / "export.zip")
    with (
        serving(module_deployment.environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        response = client.post("/batches?batch_id=web", content=path.read_bytes())
        assert response.status_code == 202, response.text
        accepted = response.json()
        assert accepted["batch_id"] == "web:enrollments"
        assert [(batch["batch_id"], batch["file"]) for batch in accepted["batches"]] == [
            ("web:students", "users.csv"),
            ("web:courses", "classes.csv"),
            ("web:enrollments", "enrollments.csv"),
        ]
        assert any("1 'teacher'" in notice for notice in accepted["notices"])
        wait_for(lambda: client.get(accepted["url"]).json()["state"] == "done", seconds=30)
    assert enrolled_pairs(database) == {("u-1", "c-1"), ("u-2", "c-2")}
    assert students(database) == {"u-1", "u-2"}


def test_the_enrollments_that_a_complete_package_does_not_name_are_counted(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    whole = zipped_package(PACKAGE, tmp_path / "whole.zip")
    done = module_deployment.enroll("submit", whole, "--json", expect=GOOD)
    batches = [json.loads(line) for line in done.stdout.splitlines()]
    assert [batch.get("not_in_file") for batch in batches] == [None, None, 0]
    header, first, *_ = PACKAGE["enrollments.csv"]
    rest = zipped_package(PACKAGE | {"enrollments.csv": [header, first]}, tmp_path / "rest.zip")
    done = module_deployment.enroll("submit", rest, "--json", expect=GOOD)
    batch = json.loads(done.stdout.splitlines()[-1])
    sentence = (
        "1 enrollment is current here, but not in the file (1 in 'c-2'). The student was not"
        " dropped; submit a drop if the student has left."
    )
    assert f"Notice: {rest}: {sentence}" in done.stderr
    assert batch["not_in_file"] == 1
    assert f"{rest}: {sentence}" in batch["notices"]
    assert enrolled_pairs(database) == {("u-1", "c-1"), ("u-2", "c-2")}
    with (
        serving(module_deployment.environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        accepted = client.post("/batches", content=rest.read_bytes()).json()
        assert accepted["not_in_file"] == 1
        assert f"The file: {sentence}" in accepted["notices"]
        clever = "School_id,Section_id,Student_id\n1,c-1,u-9\n"
        assert client.post("/batches", content=clever).json()["not_in_file"] == 1
        ours = "student_id,course_id\nu-9,c-1\n"
        assert client.post("/batches", content=ours).json()["not_in_file"] is None
