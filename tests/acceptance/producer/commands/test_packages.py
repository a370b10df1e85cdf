"""A package of another system is one submission: rosters first, then enrollments and drops."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from support.commands import ENROLL, GOOD, USAGE, run_program
from support.databases import clear_batches, enrolled_pairs, opened_database, store_roster
from support.http import serving
from support.packages import encoded, zipped_package
from support.waiting import wait_for
from support.workers import Deployment
from worker.database.engine import Database
from worker.models import Student

pytestmark = [pytest.mark.xdist_group("packages"), pytest.mark.one_database]

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
        " dropped; submit a drop if the student has left, or submit the export as a snapshot."
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


@pytest.mark.parametrize("how", ["standard input", "named pipe"])
def test_a_package_is_read_from_a_pipe(
    module_deployment: Deployment, database: Database, tmp_path: Path, how: str
) -> None:
    path = zipped_package(PACKAGE, tmp_path / "export.zip")
    if how == "standard input":
        command = shlex.join([*ENROLL, "submit", "--json", "-"])
        env = module_deployment.environment
        done = run_program("sh", "-c", f"cat {path} | {command}", env=env)
    else:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["sh", "-c", f"cat {path} > {pipe}"]):  # noqa: S607
            done = module_deployment.enroll("submit", "--json", pipe, expect=GOOD)
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds == ["students", "courses", "enrollments"], done.stderr
    assert enrolled_pairs(database) == {("u-1", "c-1"), ("u-2", "c-2")}


def test_an_id_that_is_too_long_for_a_package_submits_nothing(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    path = zipped_package(PACKAGE, tmp_path / "export.zip")
    own_id = "n" * 120
    done = module_deployment.enroll("submit", path, "--batch-id", own_id, expect=USAGE)
    assert "the batches of a package add their names, such as :enrollments" in done.stderr
    assert "at most 116 characters" in done.stderr
    with (
        serving(module_deployment.environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        response = client.post(f"/batches?batch_id={own_id}", content=path.read_bytes())
    assert response.status_code == 422, response.text
    assert response.json()["field"] == "batch_id"
    assert enrolled_pairs(database) == set()


def test_two_files_of_enrollments_count_at_one_moment(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    header = "course_id,user_id,role,status"
    files = {"a.csv": [header, "Y,X,student,active"], "b.csv": [header, "Y,X,student,deleted"]}
    path = zipped_package(files, tmp_path / "export.zip")
    module_deployment.enroll("submit", path, expect=GOOD)
    assert enrolled_pairs(database) == {("X", "Y")}
    with (
        serving(module_deployment.environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        accepted = client.post("/batches", content=path.read_bytes()).json()
        urls = [batch["url"] for batch in accepted["batches"]]
        wait_for(lambda: all(client.get(url).json()["state"] == "done" for url in urls), seconds=30)
    assert enrolled_pairs(database) == {("X", "Y")}


def test_files_of_one_export_that_are_named_together_are_a_package(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    files = {
        "users.csv": ["user_id,login_id,status", "u-1,a,active", "t-1,b,active"],
        "courses.csv": ["course_id,short_name,long_name,status", "c-1,A,Algebra,active"],
        "enrollments.csv": [
            "course_id,user_id,role,status", "c-1,u-1,student,active", "c-1,t-1,teacher,active",
        ],
        "ours.csv": ["sis_id,name", "u-2,Two"],
    }  # fmt: skip
    for name, lines in files.items():
        (tmp_path / name).write_bytes(encoded(lines))
    paths = [tmp_path / name for name in files]
    done = module_deployment.enroll("submit", "--json", *paths, expect=GOOD)
    shown = done.stderr.replace("\n", " ")
    assert "The package of users.csv, courses.csv and enrollments.csv is read as one" in shown
    assert students(database) >= {"u-1", "u-2"}
    assert "t-1" not in students(database)
    assert enrolled_pairs(database) == {("u-1", "c-1")}
    own_id = ["--batch-id", "loose"]
    done = module_deployment.enroll("submit", "--json", *own_id, *paths[:3], expect=GOOD)
    ids = [json.loads(line)["batch_id"] for line in done.stdout.splitlines()]
    assert ids == ["loose:students", "loose:courses", "loose:enrollments"]
    done = module_deployment.enroll("submit", *own_id, *paths, expect=USAGE)
    assert "--batch-id is the id of one batch or package" in done.stderr
    # A mapping is for single files.
    options = ["--check", "--kind", "students"]
    done = module_deployment.enroll("submit", *options, paths[0], paths[3], expect=GOOD)
    assert "is read as one" not in done.stderr.replace("\n", " ")
    # Files of the same name are not of one export.
    other = tmp_path / "other"
    other.mkdir()
    (other / "users.csv").write_bytes(encoded(files["users.csv"]))
    done = module_deployment.enroll("submit", "--check", paths[0], other / "users.csv", expect=GOOD)
    assert "is read as one" not in done.stderr.replace("\n", " ")


def test_lines_may_count_when_they_were_last_changed(
    module_deployment: Deployment, database: Database, tmp_path: Path
) -> None:
    header = "sourcedId,status,dateLastModified,classSourcedId,userSourcedId,role"
    path = tmp_path / "enrollments.csv"

    def submit(status: str, day: str, *options: str) -> None:
        line = f"e1,{status},2026-01-{day}T08:00:00.000Z,Y,X,student"
        path.write_bytes(encoded([header, line]))
        module_deployment.enroll("submit", path, *options, expect=GOOD)

    submit("active", "10", "--moments-from-file")
    assert enrolled_pairs(database) == {("X", "Y")}
    submit("tobedeleted", "20", "--moments-from-file")
    assert enrolled_pairs(database) == set()
    submit("active", "15", "--moments-from-file")  # An old export that comes late changes nothing.
    assert enrolled_pairs(database) == set()
    submit("active", "15")
    assert enrolled_pairs(database) == {("X", "Y")}
