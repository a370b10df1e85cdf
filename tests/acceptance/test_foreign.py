"""Systems that are not ours publish and read: with a bare Redis client, and from Node."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract import asyncapi
from support.commands import run_program
from support.databases import dead_letters, opened_database
from support.paths import ROOT
from support.requirements import require_program
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = pytest.mark.one_database

EXAMPLES = ROOT / "docs" / "examples"
NODE = Path(__file__).parent / "node"
RENEW = "renew it: enroll schema {form} > {file}"

Run = Callable[..., str]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a script in a folder that has the packages of the tests."""
    program, installer = require_program("node"), require_program("npm")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, folder)
    install = [installer, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = run_program(*install, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr

    def run(script: Path, *arguments: str) -> str:
        copied = shutil.copy(script, folder)
        done = subprocess.run(
            [program, copied, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | {"NODE_NO_WARNINGS": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def roster(client: EnrollmentClient) -> None:
    enter_roster(client, ["F1", "4711"], [{"sis_id": "LOGIC-1", "title": "Logic"}])


# --- The documents ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "make", "file"),
    [
        ("json", asyncapi.json_schemas, "docs/schemas.json"),
        ("asyncapi", asyncapi.asyncapi, "docs/asyncapi.json"),
    ],
)
def test_the_documents_agree_with_the_models(form: str, make: Callable[[], Any], file: str) -> None:
    assert json.loads((ROOT / file).read_text()) == make(), RENEW.format(form=form, file=file)


@pytest.mark.xdist_group("node")
def test_the_official_parser_finds_nothing_wrong(node: Run) -> None:
    assert node(NODE / "parse.js", str(ROOT / "docs" / "asyncapi.json")) == ""


# --- The examples -----------------------------------------------------------------------------


@pytest.mark.usefixtures("roster")
def test_the_message_on_the_integration_page_is_valid(deployment: Deployment) -> None:
    page = (ROOT / "docs" / "integration.md").read_text()
    (message,) = [line for line in page.splitlines() if line.startswith('{"body"')]
    body, question = [line for line in page.splitlines() if line.startswith("[[")]
    parsed = json.loads(message)
    assert base64.b64decode(parsed["body"]).decode() == body
    with Redis.from_url(deployment.broker_url) as redis:
        redis.lpush("enrollments", message)
        key = f"celery-task-meta-{parsed['headers']['id']}"
        wait_for(lambda: redis.exists(key) == 1)
        answer = json.loads(redis.get(key) or b"")
        assert answer["result"]["request_id"] == "sis-2026-000123"
        asks = envelope(json.loads(question), task="enrollment.status", id="question")
        redis.lpush("lookups", json.dumps(asks))
        wait_for(lambda: redis.exists("celery-task-meta-question") == 1)
        (status,) = json.loads(redis.get("celery-task-meta-question") or b"")["result"]
    assert (status["state"], status["result"]["request_id"]) == ("done", "sis-2026-000123")


def raw_python(url: str, *arguments: str) -> Any:
    command = [sys.executable, str(EXAMPLES / "raw.py"), url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("roster")
def test_thirty_lines_of_python_enroll_a_student(deployment: Deployment) -> None:
    answer = raw_python(deployment.broker_url, "F1", "LOGIC-1")
    assert (answer["status"], answer["student_id"]) == ("enrolled", "F1")
    assert [course["sis_id"] for course in answer["enrolled_courses"]] == ["LOGIC-1"]
    answer = raw_python(deployment.broker_url, "F1", "--drop", "LOGIC-1")
    assert (answer["status"], answer["dropped_courses"][0]["removed"]) == ("dropped", True)


@pytest.mark.xdist_group("node")
@pytest.mark.usefixtures("roster")
def test_thirty_lines_of_node_enroll_a_student(deployment: Deployment, node: Run) -> None:
    url = deployment.broker_url
    answer = json.loads(node(EXAMPLES / "raw.js", url, "F1", "LOGIC-1"))
    assert (answer["status"], answer["errors"]) == ("enrolled", [])
    dropped = json.loads(node(EXAMPLES / "raw.js", url, "F1", "--drop", "LOGIC-1"))
    assert (dropped["status"], dropped["errors"]) == ("dropped", [])
    refused = json.loads(node(EXAMPLES / "raw.js", url, "4711", "17"))
    assert [error["code"] for error in refused["errors"]] == ["unknown_course"]
    assert "for our key, send the integer 17" in refused["errors"][0]["message"]


@pytest.mark.xdist_group("node")
def test_celery_for_node_submits_and_reads_results_and_counts(
    deployment: Deployment, client: EnrollmentClient, node: Run
) -> None:
    printed = json.loads(node(EXAMPLES / "celery.js", deployment.broker_url, "from-node"))
    result, books = printed["result"], printed["books"]
    assert (result["request_id"], result["status"]) == ("from-node-1", "enrolled")
    assert (books["received"], books["already_enrolled"], books["rejected"]) == (2, 1, 1)
    (group,) = printed["refusals"]
    assert (group["code"], group["first_lines"]) == ("unknown_student", [2])
    student = client.student("N1")
    assert student is not None
    assert student.courses == ()
    dropped = printed["dropped"]
    assert (dropped["status"], dropped["reason"]) == ("dropped", "moved to evening classes")
    assert [(c["sis_id"], c["removed"]) for c in dropped["dropped_courses"]] == [("NODE-1", True)]


# --- Their mistakes ---------------------------------------------------------------------------

GOOD = {"student_id": "F1", "course_ids": ["LOGIC-1"]}


def envelope(body: Any, **headers: Any) -> dict[str, Any]:
    text = json.dumps(body).encode()
    return {
        "headers": {"task": "enrollment.enroll", "id": "foreign", **headers},
        "properties": {"body_encoding": "base64"},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "body": base64.b64encode(text).decode(),
    }


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (envelope([[GOOD], {}, {}], task="enrollment.enrol"), "there is no task"),
        (envelope({"task": "enrollment.enroll", "id": "1", "args": [GOOD]}), "the body must be"),
        ({**envelope([[GOOD], {}, {}]), "headers": {}}, "headers.task"),
        (GOOD, "headers must be an object"),
    ],
    ids=["wrong name", "protocol 1", "no headers", "no envelope"],
)
def test_a_malformed_message_is_stored_and_the_next_one_processed(
    fresh_deployment: Deployment, message: dict[str, Any], words: str
) -> None:
    with Redis.from_url(fresh_deployment.broker_url) as redis:
        redis.lpush("enrollments", json.dumps(message))
    with opened_database(fresh_deployment.database_url) as database:
        wait_for(lambda: len(dead_letters(database)) == 1)
        assert words in dead_letters(database)[0].detail
    assert raw_python(fresh_deployment.broker_url, "F9", "X")["status"] == "rejected"


@pytest.mark.usefixtures("roster")
@pytest.mark.parametrize(
    ("request_", "field", "code"),
    [
        ({"student_id": "F1", "course_ids": "LOGIC-1"}, "course_ids", "invalid_request"),
        ({"student": "F1", "course_ids": ["LOGIC-1"]}, "student", "invalid_request"),
        ({"student_id": 2_000_000_000, "course_ids": ["LOGIC-1"]}, "student_id", "unknown_student"),
    ],
    ids=["no list", "wrong field", "a number for a SIS id"],
)
def test_a_request_in_the_wrong_shape_is_refused_with_its_field(
    deployment: Deployment, request_: dict[str, Any], field: str, code: str
) -> None:
    task_id = f"foreign-{field}-{code}"
    with Redis.from_url(deployment.broker_url) as redis:
        redis.lpush("enrollments", json.dumps(envelope([[request_], {}, {}], id=task_id)))
        wait_for(lambda: redis.exists(f"celery-task-meta-{task_id}") == 1)
        answer = json.loads(redis.get(f"celery-task-meta-{task_id}") or b"")
    assert answer["status"] == "SUCCESS"
    assert (field, code) in {(e["field"], e["code"]) for e in answer["result"]["errors"]}
