"""Each process works with the variables and the rights that the manifests give it."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from redis import Redis
from redis.exceptions import NoPermissionError
from sqlalchemy.engine import URL, make_url

from support.commands import clean_environment, run_enroll, run_program, run_python
from support.copies import Administer, connection_string
from support.http import serving
from support.manifests import FOLDER, compose
from support.paths import ROOT
from support.postgres import postgres_program
from support.transcripts import blocks
from support.valkey import running_valkey
from support.waiting import wait_for
from support.workers import running_worker

ROLES = ("enrollment_owner", "enrollment_worker")


class Stack(NamedTuple):
    """Servers that were set up as the page for operators says."""

    variables: dict[str, str]
    """The content of the file .env."""
    broker: str
    """Host and port of the Redis."""
    server: URL
    """The PostgreSQL server."""

    def environment(self, service: str) -> dict[str, str]:
        """Return the variables that compose.yaml gives a service, with these servers' addresses."""
        environment = clean_environment()
        for name, value in compose()["services"][service]["environment"].items():
            filled = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: self.variables[match[1]], value)
            if filled.startswith("postgresql:"):
                url = make_url(filled)
                assert url.host == "database"
                here = self.server.set(
                    username=url.username, password=url.password, database=url.database
                )
                filled = here.render_as_string(hide_password=False)
            environment[name] = filled.replace("@broker:6379/", f"@{self.broker}/")
        return environment

    def connect(self, service: str) -> Any:
        """Connect to the database as a service does."""
        url = self.environment(service)["ENROLL_DATABASE_URL"]
        return closing(psycopg.connect(connection_string(url), autocommit=True))


def psql(server: URL, script: Path, **variables: str) -> Any:
    url = connection_string(server.render_as_string(hide_password=False))
    return run_program(
        *(postgres_program("psql"), "-qX", "-f", script, url), env={**os.environ, **variables}
    )


# One process of the test run starts the stack, for all of these tests.
pytestmark = pytest.mark.xdist_group("least privilege")


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, postgres: Callable[[str], str], administer: Administer
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    shutil.copytree(ROOT / "docs", folder / "docs")
    (script,) = (
        block
        for block in blocks("docs/operations/README.md", "sh")
        if block.startswith("cd docs/operations")
    )
    done = run_program("sh", "-euc", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    written = folder / "docs" / "operations"
    assert (written / ".env").stat().st_mode & 0o777 == 0o600
    variables = dict(line.split("=") for line in (written / ".env").read_text().splitlines())
    server = make_url(postgres("postgres"))
    only_one = {"OWNER_PASSWORD": variables["OWNER_PASSWORD"]}
    assert psql(server, FOLDER / "roles.sql", **only_one).returncode != 0
    assert psql(server, FOLDER / "roles.sql", **variables).returncode == 0
    rules = folder / "users.acl"
    rules.touch()
    with running_valkey(folder / "valkey", aclfile=str(rules)) as valkey:
        # Whether it has started is asked without a password.
        shutil.copy(written / "users.acl", rules)
        with Redis(port=valkey.port) as redis:
            redis.acl_load()
        yield Stack(variables, f"127.0.0.1:{valkey.port}", server)
    administer("DROP DATABASE enrollment WITH (FORCE)")
    for role in ROLES:
        administer(f"DROP ROLE {role}")


def test_the_script_sets_every_variable_of_compose(stack: Stack) -> None:
    named = set(re.findall(r"\$\{(\w+)(?::\?[^}]*)?\}", (FOLDER / "compose.yaml").read_text()))
    assert len(named) == 5
    assert named <= stack.variables.keys()
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in stack.variables.values())


@pytest.fixture(scope="module")
def migrated(stack: Stack) -> Stack:
    environment = stack.environment("migrate")
    done = run_python("-m", "worker.migrate", env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return stack


def denied(stack: Stack) -> list[str]:
    """Return what Redis has denied, by its own log, since the last call."""
    password = stack.variables["REDIS_OPERATOR_PASSWORD"]
    with Redis.from_url(f"redis://operator:{password}@{stack.broker}/0") as redis:
        log: Any = redis.acl_log()
        redis.acl_log_reset()
    return [f"{entry['username']} {entry['object']}" for entry in log]


def is_done(client: httpx.Client, batch: str) -> bool:
    return bool(client.get(batch).json()["state"] == "done")


def test_all_processes_work_with_their_roles(migrated: Stack, tmp_path: Path) -> None:
    worker, front = migrated.environment("worker"), migrated.environment("http")
    denied(migrated)
    assert "ENROLL_DATABASE_URL" not in front
    worker_urls = (worker["ENROLL_BROKER_URL"], worker["ENROLL_DATABASE_URL"])
    with (
        running_worker(
            *worker_urls,
            tmp_path / "worker.log",
            "--concurrency=1",
            client_url=front["ENROLL_BROKER_URL"],
        ),
        serving(front, tmp_path / "http.log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        for kind, content in (("students", "sis_id\nS1\n"), ("courses", "sis_id\nC1\n")):
            accepted = client.post("/batches", params={"kind": kind}, content=content)
            assert accepted.status_code == 202, accepted.text
            wait_for(partial(is_done, client, accepted.json()["url"]))
        request = {"student_id": "S1", "course_ids": ["C1"]}
        enrolled = client.post("/students/enroll", json=request, headers={"Prefer": "wait=20"})
        assert enrolled.json()["status"] == "enrolled"
        assert client.get("/students/S1").json()["courses"][0]["sis_id"] == "C1"
        pruned = run_enroll(migrated.environment("prune"), "prune", "--older-than", "400d", "--yes")
        assert "removed" in pruned.stdout
    assert denied(migrated) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE student_courses",
        "TRUNCATE student_courses",
        "ALTER TABLE students ADD COLUMN x int",
        "CREATE TABLE mine (x int)",
        "CREATE INDEX mine ON students (name)",
        "CREATE ROLE another",
        "COPY students TO PROGRAM 'true'",
        "SET ROLE enrollment_owner",
    ],
)
def test_the_role_of_the_workers_can_change_rows_and_nothing_else(
    migrated: Stack, statement: str
) -> None:
    with migrated.connect("worker") as connection:
        connection.execute("UPDATE students SET name = name")
        with pytest.raises(InsufficientPrivilege):
            connection.execute(statement)


def test_the_owner_of_the_tables_is_no_superuser(stack: Stack) -> None:
    with stack.connect("migrate") as connection:
        (row,) = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        assert row == (False, False, False)
        with pytest.raises(InsufficientPrivilege):
            connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")


def test_the_front_cannot_take_what_is_queued(stack: Stack) -> None:
    url = stack.environment("http")["ENROLL_BROKER_URL"]
    with Redis.from_url(url) as redis, pytest.raises(NoPermissionError):
        redis.rpop("enrollments")
