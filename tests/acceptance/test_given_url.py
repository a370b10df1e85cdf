"""The broker that was given is the one that is used, whatever Celery finds in the environment."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from producer.contract.environment import IGNORED
from producer.contract.keys import Keys
from support.celery_variables import celery_variables, dead_url
from support.commands import REFUSED, clean_environment, run_enroll, run_program, write_lines
from support.http import serving
from support.valkey import running_valkey
from support.workers import Deployment, running_worker


@pytest.fixture(scope="module")
def second_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another Redis, in which nothing of ours may appear."""
    with running_valkey(tmp_path_factory.mktemp("second")) as server:
        yield f"{server.connection_url}/0"


@pytest.fixture(scope="module", params=["second Redis", "dead port"])
def elsewhere(request: pytest.FixtureRequest, second_valkey: str) -> Iterator[str]:
    """The URL that all variables of Celery hold; in the end, nobody has used it."""
    if request.param == "dead port":
        yield dead_url()
        return
    with Redis.from_url(second_valkey) as redis:
        redis.config_resetstat()
        yield second_valkey
        # Nobody has written there, or even connected.
        assert redis.info("commandstats").keys() == {"cmdstat_config|resetstat"}
        assert redis.dbsize() == 0


@pytest.fixture(scope="module")
def variables(elsewhere: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return celery_variables(elsewhere, tmp_path_factory.mktemp("modules"))


@pytest.fixture(scope="module")
def misled(
    variables: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[str], str],
) -> Iterator[Deployment]:
    """A worker in whose environment every variable of Celery is set."""
    folder = tmp_path_factory.mktemp("misled")
    with (
        running_valkey(folder / "valkey") as server,
        running_worker(
            f"{server.connection_url}/0",
            new_database("sqlite"),
            folder / "worker.log",
            "--concurrency=1",
            settings=variables,
        ) as running,
    ):
        yield running


def test_a_worker_takes_messages_and_answers_where_it_was_told_to(
    misled: Deployment, tmp_path: Path
) -> None:
    courses = write_lines(tmp_path / "courses.csv", "sis_id,title", "C1,Logic")
    done = run_enroll(misled.environment, "submit", courses, "--json")
    assert json.loads(done.stdout)["state"] == "done"
    log = misled.log.read_text()
    for name in IGNORED:
        assert f"{name} is set, and ignored" in log


def test_the_commands_publish_and_read_where_they_were_told_to(
    misled: Deployment, variables: dict[str, str], tmp_path: Path
) -> None:
    environment = misled.environment | variables
    students = write_lines(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    courses = write_lines(tmp_path / "courses.csv", "sis_id,title", "C1,Logic")
    assert run_enroll(environment, "submit", students, courses).stdout.count("done") == 2
    result = json.loads(run_enroll(environment, "request", "S1", "C1", "--json").stdout)
    assert result["status"] == "enrolled"
    assert run_enroll(environment, "status", result["request_id"])
    assert "C1" in run_enroll(environment, "student", "S1").stdout


def test_doctor_names_the_variables_and_finds_nothing_wrong(
    misled: Deployment, variables: dict[str, str]
) -> None:
    # The Redis of the tests stores nothing on disk, which doctor finds as well.
    done = run_enroll(misled.environment | variables, "doctor", "--json", expect=REFUSED)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    named = [finding for finding in findings if finding["check"] == "environment"]
    assert [finding["found"].split()[0] for finding in named] == list(IGNORED)
    assert all("is set, and ignored" in finding["found"] for finding in named)
    assert {f["check"] for f in findings if f["state"] == "wrong"} == {"persistence"}


def test_the_http_front_publishes_and_reads_where_it_was_told_to(
    misled: Deployment, variables: dict[str, str], tmp_path: Path
) -> None:
    environment = misled.environment | variables
    with serving(environment, tmp_path / "http.log") as (url, _):
        request = {"student_id": "S4", "course_ids": ["C4"]}
        answer = httpx.post(
            f"{url}/students/enroll", json=request, headers={"Prefer": "wait=20"}, timeout=30
        )
        assert answer.json()["status"] == "rejected"
        seen = httpx.get(f"{url}/requests/{answer.json()['request_id']}", timeout=30)
        assert seen.json()["state"] == "done"


def test_the_demo_runs_in_its_own_stack(variables: dict[str, str], tmp_path: Path) -> None:
    environment = clean_environment() | variables | {"TMPDIR": str(tmp_path)}
    done = run_enroll(environment, "demo")
    assert "Batch" in done.stdout


PROGRAM = """
import json, os
from producer.client import EnrollmentClient

with EnrollmentClient(os.environ["GIVEN"], timeout=30) as client:
    result = client.enroll({"student_id": "S2", "course_ids": ["C2"]})
    batch = client.submit_batch("students", [{"sis_id": "S3"}])
    status = client.wait(batch, timeout=60)
    print(json.dumps([result.status, status.state, client.status(result.request_id).state]))
"""


@pytest.mark.parametrize("strict", [{}, {"C_STRICT_APP": "1"}], ids=["", "no current app"])
def test_a_client_publishes_and_reads_where_it_was_told_to(
    misled: Deployment, variables: dict[str, str], strict: dict[str, str]
) -> None:
    environment = clean_environment() | variables | strict | {"GIVEN": misled.broker_url}
    done = run_program(sys.executable, "-c", PROGRAM, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["rejected", "done", "done"]


def test_an_unread_message_lies_in_the_given_redis(
    variables: dict[str, str], broker_url: str
) -> None:
    code = (
        "import sys; from producer.client import EnrollmentClient;"
        "EnrollmentClient(sys.argv[1]).submit({'student_id': 1, 'course_ids': [1]})"
    )
    environment = clean_environment() | variables
    done = run_program(sys.executable, "-c", code, broker_url, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    with Redis.from_url(broker_url) as redis:
        assert redis.llen(Keys().queue("enrollments")) == 1
        (message,) = redis.lrange(Keys().queue("enrollments"), 0, -1)
    assert json.loads(message)["content-type"] == "application/json"
