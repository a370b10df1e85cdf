"""`enroll batches` shows the file and the submitter of a batch, whatever a client wrote there."""

import getpass
import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.headers import MAX_LABEL
from producer.contract.routing import Queue, TaskName
from producer.schemas import Kind
from support.commands import GOOD, invoke_enroll
from support.http import serving
from support.malformed import message
from support.rosters import finished
from support.workers import Deployment

pytestmark = pytest.mark.one_database


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: dict[str, tuple[Any, str | None]] = {
    "control characters": ("a\x1b[2J\x9b1m\u202e\nb", "a\x1b[2J\x9b1m\u202e\nb"),
    "NUL": ("a\0b", "a\ufffdb"),
    "half a character": ("a\ud800b", "a\ufffdb"),
    "a megabyte": ("x" * 1_000_000, "x" * MAX_LABEL),
    "characters outside of the BMP": ("\U0001f393" * 100_000, "\U0001f393" * MAX_LABEL),
    "spaces": ("  ", None),
    "a number": (5, None),
    "a float": (1e300, None),
    "true": (True, None),
    "a list": (["a"], None),
    "an object": ({"a": {"b": 1}}, None),
    "nested as deeply as JSON can be read": (nested(300), None),
    "a long list": ([0] * 100_000, None),
}
"""Values of a header, each with what is stored of it."""

ENROLLED = "student_sis_id,course_sis_id\nS1,C1\n"


@pytest.fixture
def listed(deployment: Deployment) -> Callable[[str], tuple[Any, Any]]:
    """Gives the file and the submitter that `enroll batches` shows for a batch."""

    def find(batch_id: str) -> tuple[Any, Any]:
        done = invoke_enroll(
            "batches", "--limit", "1000", "--json", ENROLL_DATABASE_URL=deployment.database_url
        )
        assert done.exit_code == GOOD, done.output
        rows = {row["batch"]: row for row in map(json.loads, done.stdout.splitlines())}
        return rows[batch_id]["file"], rows[batch_id]["submitter"]

    return find


@pytest.fixture
def submit(deployment: Deployment, tmp_path: Path) -> Callable[..., None]:
    """Submits a file as a batch."""

    def run(batch_id: str, *options: str, name: str = "pairs.csv", **variables: str) -> None:
        (tmp_path / name).write_text(ENROLLED)
        own = {
            "ENROLL_BROKER_URL": deployment.broker_url,
            "ENROLL_SUBMITTER": None,
            "XDG_STATE_HOME": str(tmp_path / "state"),
        }
        arguments = ("submit", str(tmp_path / name), "--batch-id", batch_id, *options)
        done = invoke_enroll(*arguments, **(own | variables))
        assert done.exit_code in (0, 1), done.output

    return run


def test_the_file_and_the_submitter_are_listed(
    submit: Callable[..., None], listed: Callable[[str], Any]
) -> None:
    batches = [uuid.uuid4().hex for _ in range(3)]
    submit(batches[0])
    submit(batches[1], ENROLL_SUBMITTER="night job")
    submit(batches[2], "--submitter", "Ada", name="pärs \u202e.csv", ENROLL_SUBMITTER="night job")
    assert [listed(batch_id) for batch_id in batches] == [
        ("pairs.csv", getpass.getuser()),
        ("pairs.csv", "night job"),
        ("pärs \u202e.csv", "Ada"),
    ]


def test_a_batch_that_somebody_else_resumes_keeps_its_first_submitter(
    client: EnrollmentClient, submit: Callable[..., None], listed: Callable[[str], Any]
) -> None:
    first, unnamed = uuid.uuid4().hex, uuid.uuid4().hex
    submit(first, "--submitter", "Ada")
    submit(first, "--submitter", "Mallory", name="other.csv")
    assert listed(first) == ("pairs.csv", "Ada")
    records = [{"student_id": "S1", "course_ids": ["C1"]}]
    client.submit_batch(Kind.ENROLLMENTS, records, batch_id=unnamed)
    finished(client, unnamed)
    client.submit_batch(Kind.ENROLLMENTS, records, batch_id=unnamed, submitter="Mallory")
    assert listed(unnamed) == (None, None)


def test_no_value_of_a_header_makes_a_chunk_fail(
    deployment: Deployment, client: EnrollmentClient, listed: Callable[[str], Any]
) -> None:
    prefix = uuid.uuid4().hex[:8]
    with Redis.from_url(deployment.broker_url) as redis:
        for what, (value, _) in HOSTILE.items():
            chunk = {"batch_id": f"{prefix} {what}", "number": 0, "last": True, "records": []}
            raw = message(
                [[{**chunk, "records": [{"sis_id": f"{prefix}-S"}]}], {}, {}],
                headers__task=TaskName.UPSERT_STUDENTS.value,
                headers__submitter=value,
                headers__file_name=value,
            )
            redis.lpush(Queue.BATCHES, json.dumps(raw))
    for what, (_, stored) in HOSTILE.items():
        assert finished(client, f"{prefix} {what}").chunks_failed == 0
        assert listed(f"{prefix} {what}") == (stored, stored)


def test_over_http_the_submitter_is_the_name_of_the_token(
    deployment: Deployment,
    client: EnrollmentClient,
    listed: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"sis submit {hashlib.sha256(b'secret').hexdigest()}\n")
    log, prefix = tmp_path / "log", uuid.uuid4().hex
    uploads: dict[str, dict[str, Any]] = {
        f"{prefix} form": {"files": {"file": ("Größe.csv", ENROLLED.encode(), "text/csv")}},
        f"{prefix} body": {"content": ENROLLED.encode()},
    }
    with serving(deployment.environment, log, "--tokens", str(tokens)) as (url, _):
        for batch_id, upload in uploads.items():
            answer = httpx.post(
                f"{url}/batches",
                params={"batch_id": batch_id},
                headers={"Authorization": "Bearer secret"},
                timeout=30,
                **upload,
            )
            assert answer.status_code == 202, answer.text
            finished(client, batch_id)
    assert listed(f"{prefix} form") == ("Größe.csv", "sis")
    assert listed(f"{prefix} body") == (None, "sis")
