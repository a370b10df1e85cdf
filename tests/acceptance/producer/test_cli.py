"""The commands of a registrar: files, requests and lookups, with their exit codes."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.commands import (
    GOOD,
    REFUSED,
    UNREACHABLE,
    USAGE,
    clean_environment,
    run_enroll,
    write_lines,
)
from support.valkey import free_port
from support.workers import Deployment

pytestmark = pytest.mark.one_database


def ask_all(deployment: Deployment, *arguments: str | Path, expect: int = GOOD) -> list[Any]:
    """Only data is on standard output: every line of it is JSON."""
    lines = deployment.enroll(*arguments, "--json", expect=expect).stdout.splitlines()
    return [json.loads(line) for line in lines]


def ask(deployment: Deployment, *arguments: str | Path, expect: int = GOOD) -> Any:
    (found,) = ask_all(deployment, *arguments, expect=expect)
    return found


@pytest.fixture
def names() -> tuple[str, str]:
    return f"S-{uuid.uuid4()}", f"C-{uuid.uuid4()}"


@pytest.fixture
def roster(deployment: Deployment, tmp_path: Path, names: tuple[str, str]) -> tuple[str, str]:
    student, course = names
    students = write_lines(tmp_path / "students.csv", "sis_id;name", f"{student};Ada")
    courses = write_lines(tmp_path / "courses.csv", "sis_id\ttitle", f"{course}\tLogic")
    assert len(ask_all(deployment, "submit", courses, students)) == 2
    return names


def test_rosters_go_before_the_enrollments_that_need_them(
    deployment: Deployment, tmp_path: Path, names: tuple[str, str]
) -> None:
    student, course = names
    pairs = write_lines(tmp_path / "a.csv", "student_sis_id,course_sis_id", f"{student},{course}")
    students = write_lines(tmp_path / "b.csv", "sis_id,email", f"{student},ada@example.edu")
    courses = write_lines(tmp_path / "c.csv", "sis_id,title", f"{course},Logic")
    statuses = ask_all(deployment, "submit", pairs, students, courses)
    assert [status["kind"] for status in statuses] == ["students", "courses", "enrollments"]
    assert statuses[2]["books"]["enrolled"] == 1


def test_every_refused_line_is_named(
    deployment: Deployment, tmp_path: Path, roster: tuple[str, str]
) -> None:
    student, course = roster
    pairs = write_lines(
        tmp_path / "pairs.csv",
        "student_sis_id,course_sis_id",
        f"{student},{course}",
        f"{student},nowhere",
        f"nobody,{course}",
        f"{student},",
        f"{student}",
        f"{student},{course}",
    )
    status = ask(deployment, "submit", pairs, expect=REFUSED)
    assert status["books"] == {
        "received": 6,
        "enrolled": 1,
        "already_enrolled": 1,
        "dropped": 0,
        "not_enrolled": 0,
        "upserted": 0,
        "unchanged": 0,
        "superseded": 0,
        "rejected": 4,
        "not_applied": 0,
    }
    lines = {group["code"]: group["first_lines"] for group in status["refusals"]}
    assert lines == {"unknown_course": [3], "unknown_student": [4], "invalid_request": [5, 6]}
    shown = deployment.enroll("status", status["batch_id"], expect=REFUSED).stdout
    assert "unknown_course" in shown
    assert "'nowhere'" in shown


def test_json_lines_hold_whole_requests(
    deployment: Deployment, tmp_path: Path, roster: tuple[str, str]
) -> None:
    student, course = roster
    lines = write_lines(
        tmp_path / "requests.jsonl",
        json.dumps({"student_id": student, "course_ids": [course], "request_id": f"r-{student}"}),
        "not json",
        json.dumps({"student_id": "12", "course_ids": [True]}),
    )
    status = ask(deployment, "submit", "--kind", "enrollments", lines, expect=REFUSED)
    assert status["refusals"][0]["first_lines"] == [2, 3]
    assert ask(deployment, "status", f"r-{student}")["result"]["status"] == "enrolled"


def test_without_waiting_only_the_batch_id_is_printed(
    deployment: Deployment, tmp_path: Path, names: tuple[str, str]
) -> None:
    students = write_lines(tmp_path / "students.csv", "sis_id,name", f"{names[0]},Ada")
    done = deployment.enroll("submit", "--no-wait", students, expect=GOOD)
    batch_id = done.stdout.strip()
    with EnrollmentClient(deployment.broker_url) as client:
        assert client.batch(batch_id).state != "unknown"


def test_one_request_waits_and_prints_its_result(
    deployment: Deployment, roster: tuple[str, str]
) -> None:
    student, course = roster
    shown = deployment.enroll("request", student, course, expect=GOOD).stdout
    assert "enrolled" in shown
    refused = ask(deployment, "request", student, course, "nowhere", expect=REFUSED)
    assert [error["course_id"] for error in refused["errors"]] == ["nowhere"]
    partly = ask(deployment, "request", "--partial", student, course, "no", expect=REFUSED)
    assert partly["status"] == "partial"


def test_a_student_is_found_by_sis_id_and_by_key(
    deployment: Deployment, roster: tuple[str, str]
) -> None:
    student, course = roster
    deployment.enroll("request", student, course, expect=GOOD)
    found = ask(deployment, "student", student)
    assert [c["sis_id"] for c in found["courses"]] == [course]
    assert ask(deployment, "student", f"key:{found['id']}") == found
    assert ask(deployment, "student", f"sis:{student}") == found
    assert [r["status"] for r in ask_all(deployment, "results", student)] == ["enrolled"]
    deployment.enroll("student", "key:x", expect=USAGE)


@pytest.mark.parametrize(
    "command",
    [["status", "nothing"], ["wait", "nothing"], ["errors", "nothing"], ["student", "no-student"],
     ["results", "no-student"], ["history", "no-student"], ["who", "no-course"]],
)  # fmt: skip
def test_an_id_that_was_never_submitted_is_unknown(
    deployment: Deployment, command: list[str]
) -> None:
    deployment.enroll(*command, expect=REFUSED)


def test_an_unknown_id_may_be_that_of_a_request_or_of_a_batch(deployment: Deployment) -> None:
    done = deployment.enroll("status", "nothing", expect=REFUSED)
    assert done.stdout.startswith("No request or batch with the id nothing is known. Check the id")
    assert done.stderr == ""
    assert ask(deployment, "status", "nothing", expect=REFUSED)["state"] == "unknown"


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", [], ["empty", "header"]),
        (b"\x00\x01\x02", [], ["binary", "CSV"]),
        (b"%PDF-1.7\n", [], ["PDF document", "export the data as CSV"]),
        (b"a,b\n1,2\n", [], ["--kind", "--map"]),
        (b"student_id,b\n1,2\n", [], ["course_id or course_sis_id", "See --map in `enroll submit"]),
        (b"a,b\n1,2\n", ["--map", "student_sis_id={nope}"], ["'nope'", "columns are"]),
        (b"a,b\n1,2\n", ["--map", "nope={a}"], ["nope", "student_sis_id"]),
        (b"a,b\n1,2\n", ["--map", "nope"], ["COLUMN=TEMPLATE"]),
    ],
)
def test_a_file_that_cannot_be_understood_publishes_nothing(
    deployment: Deployment,
    tmp_path: Path,
    content: bytes,
    options: Sequence[str],
    words: Sequence[str],
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(content)
    student = f"S-{uuid.uuid4()}"
    good = write_lines(tmp_path / "good.csv", "sis_id,name", f"{student},Ada")
    done = deployment.enroll("submit", good, bad, *options, expect=USAGE)
    assert all(word in done.stderr for word in words), done.stderr
    with EnrollmentClient(deployment.broker_url) as client:
        assert client.student(student) is None


@pytest.mark.parametrize("path", ["missing.csv", "."])
def test_a_path_that_is_not_a_file_is_reported(deployment: Deployment, path: str) -> None:
    assert path in deployment.enroll("submit", path, expect=USAGE).stderr


def test_an_unavailable_broker_has_its_own_exit_code(deployment: Deployment) -> None:
    url = f"redis://:s3cret@127.0.0.1:{free_port()}/0"
    done = deployment.enroll("student", "S1", "--broker", url, expect=UNREACHABLE)
    assert "s3cret" not in done.stderr


def test_a_missing_worker_has_its_own_exit_code(
    deployment: Deployment, broker_url: str, tmp_path: Path
) -> None:
    asked = ("--broker", broker_url, "--timeout", "0.5")
    assert "worker" in deployment.enroll("student", "S1", *asked, expect=UNREACHABLE).stderr
    students = write_lines(tmp_path / "students.csv", "sis_id,name", "S1,Ada")
    done = deployment.enroll("submit", students, *asked, expect=UNREACHABLE)
    assert "stays queued" in done.stderr


def test_without_a_broker_the_message_names_the_remedy(tmp_path: Path) -> None:
    done = run_enroll(clean_environment(), "student", "S1", expect=USAGE, cwd=tmp_path)
    assert "enroll up" in done.stderr
