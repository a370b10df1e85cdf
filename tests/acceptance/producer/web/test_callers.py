"""Who may see what over HTTP, and what is recorded of it: a real server, broker and worker."""

import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.keys import OWNER_SECONDS, Keys, Owned
from support.http import serving
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = pytest.mark.one_database

TOKENS = {"sis": "submit", "admissions": "submit,drop", "registrar": "lookup"}
LINES = "student_sis_id,course_sis_id\nW1,WC1\nghost,WC1\n"


class Front(NamedTuple):
    """A running front with tokens; the token of each caller is its name."""

    client: httpx.Client
    audit: Path
    log: Path

    def call(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
        return self.client.request(method, path, headers=headers, **options)

    def recorded(self) -> list[dict[str, Any]]:
        """Return all lines, in the order in which they were written."""
        files = sorted(self.audit.glob("audit-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def tokens_file(folder: Path) -> Path:
    path = folder / "tokens"
    lines = (f"{n} {s} {hashlib.sha256(n.encode()).hexdigest()}\n" for n, s in TOKENS.items())
    path.write_text("".join(lines))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def front(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Two server processes that share a folder."""
    folder = tmp_path_factory.mktemp("callers")
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [{"sis_id": "W1", "name": "Ada"}], ["WC1"])
    audit, log = folder / "audit", folder / "log"
    arguments = ("--tokens", str(tokens_file(folder)), "--audit", str(audit), "--processes", "2")
    with (
        serving(deployment.environment, log, *arguments) as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        # One process answers before the other has started, which would make the folder again.
        wait_for(lambda: log.read_text().count("is recorded in") == 2)
        yield Front(client, audit, log)


def test_a_caller_without_lookup_sees_its_own_and_nothing_else(
    front: Front, deployment: Deployment
) -> None:
    request_id, batch_id = uuid.uuid4().hex, uuid.uuid4().hex
    body = {"student_id": "W1", "course_ids": ["WC1"], "request_id": request_id}
    assert front.call("sis", "POST", "/students/enroll", json=body).status_code == 202
    query = f"/batches?batch_id={batch_id}"
    assert front.call("sis", "POST", query, content=LINES).status_code == 202
    request, batch = f"/requests/{request_id}", f"/batches/{batch_id}"
    wait_for(lambda: front.call("sis", "GET", request).json()["state"] == "done")
    events = front.call("sis", "GET", f"{batch}/events").text
    assert '"state":"done"' in events
    lines = front.call("sis", "GET", f"{batch}/errors", headers={"Accept": "text/csv"})
    assert "ghost" in lines.text
    for path, unknown in (
        (request, "/requests/never"),
        *((batch + suffix, f"/batches/never{suffix}") for suffix in ("", "/errors", "/events")),
    ):
        assert front.call("registrar", "GET", path).status_code == 200
        answers = [front.call("admissions", "GET", p) for p in (path, unknown)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
    reused = front.call("admissions", "POST", "/students/enroll", json=body)
    assert (reused.status_code, reused.json()["code"]) == (409, "request_id_reused")
    conflict = front.call("admissions", "POST", query, content=LINES)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "batch_conflict")
    assert front.call("sis", "POST", "/students/enroll", json=body).status_code == 200
    assert front.call("sis", "GET", "/students/W1").status_code == 403
    with Redis.from_url(deployment.broker_url) as redis:
        for what, identity in ((Owned.REQUEST, request_id), (Owned.BATCH, batch_id)):
            assert 0 < redis.ttl(Keys().owner(what, identity)) <= OWNER_SECONDS


def test_a_disclosure_is_in_a_private_file_before_it_is_seen(front: Front) -> None:
    for n in range(20):
        response = front.call("registrar", "GET", "/students/W1", headers={"X-Request-ID": f"c{n}"})
        line = front.recorded()[-1]
        assert (line["caller"], line["what"], line["whose"]) == ("registrar", "student", ["W1"])
        assert line["call_id"] == response.headers["x-request-id"] == f"c{n}"
    (file,) = front.audit.iterdir()
    assert (file.stat().st_mode & 0o777, front.audit.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "Ada" not in file.read_text()
    assert str(front.audit) in front.log.read_text()


def test_what_cannot_be_recorded_is_not_shown(front: Front) -> None:
    away = front.audit.with_name("away")
    front.audit.rename(away)
    try:
        for path in ("/students/W1", "/students/W1/results", "/courses/WC1/students"):
            refused = front.call("registrar", "GET", path)
            assert (refused.status_code, refused.json()["code"]) == (503, "audit_unavailable")
            assert "W1" not in refused.text
        wait_for(lambda: front.client.get("/health/ready").status_code == 503)
        assert front.client.get("/health/live").status_code == 200
    finally:
        away.rename(front.audit)
    assert front.call("registrar", "GET", "/students/W1").status_code == 200
    wait_for(lambda: front.client.get("/health/ready").status_code == 200)


def test_with_tokens_and_no_folder_the_state_folder_is_used_and_named(
    deployment: Deployment, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    arguments = ("--tokens", str(tokens_file(tmp_path)))
    with serving(deployment.environment, log, *arguments) as (url, _):
        headers = {"Authorization": "Bearer registrar"}
        assert (
            httpx.get(f"{url}/students/W1/results", headers=headers, timeout=30).status_code == 200
        )
    folder = tmp_path / "state" / "enroll" / "audit"
    assert str(folder) in log.read_text()
    (file,) = folder.iterdir()
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"# revoked\n", b"\xef\xbb\xbf"])
def test_no_server_starts_with_a_tokens_file_without_tokens(tmp_path: Path, content: bytes) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_bytes(content)
    environment = {
        "ENROLL_BROKER_URL": "redis://127.0.0.1:1/0",
        "ENROLL_HTTP_TOKENS": str(tokens),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    for command in (["uvicorn", "producer.main:app"], ["producer", "serve"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, "--port", "0"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert "the file holds no token. Write a line" in " ".join(done.stderr.split())
