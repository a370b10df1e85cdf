"""The HTTP front as a client sees it: a real server, a real broker, a real worker."""

import csv
import hashlib
import io
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from support.commands import USAGE
from support.http import serving
from support.rosters import enter_roster
from support.stopwatch import Stopwatch
from support.valkey import free_port, running_valkey
from support.waiting import wait_for
from support.workers import Deployment, running_worker, worker_environment

pytestmark = pytest.mark.one_database


@pytest.fixture(scope="session")
def front(
    deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Serves the shared deployment, with two students and two courses of its own."""
    folder = tmp_path_factory.mktemp("http")
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        students = [{"sis_id": "H1", "name": "Ada"}, {"sis_id": "H/2?#ü"}]
        enter_roster(client, students, ["HC1", "HC2"])
    with (
        serving(deployment.environment, folder / "http.log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def ask(course: str = "HC1", student: str = "H1", **more: Any) -> dict[str, Any]:
    return {"student_id": student, "course_ids": [course], **more}


def test_a_request_is_accepted_and_its_location_has_the_result(front: httpx.Client) -> None:
    answer = front.post("/students/enroll", json=ask())
    assert answer.status_code == 202
    where = answer.headers["location"]
    assert answer.json()["url"] == where
    wait_for(lambda: front.get(where).json()["state"] == "done")
    assert front.get(where).json()["result"]["status"] == "enrolled"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (ask(), 200, None),
        (ask("NOPE"), 404, "unknown_course"),
        (ask(student="nobody of HTTP"), 404, "unknown_student"),
    ],
)
def test_prefer_wait_returns_the_result(
    front: httpx.Client, request_: dict[str, Any], status: int, code: str | None
) -> None:
    answer = front.post("/students/enroll", json=request_, headers={"Prefer": "wait=20"})
    assert answer.status_code == status
    assert [error["code"] for error in answer.json()["errors"]] == ([code] if code else [])
    assert answer.json()["student_id"] == request_["student_id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"student_id": "H1"}, "course_ids"),
        ({"student_id": True, "course_ids": ["HC1"]}, "student_id"),
        ({**ask(), "extra": 1}, "extra"),
        ([], None),
    ],
)
def test_a_request_that_breaks_the_contract_gets_a_problem_for_the_field(
    front: httpx.Client, body: Any, field: str | None
) -> None:
    answer = front.post("/students/enroll", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["code"] == "invalid_request"
    assert (found["field"] or "").startswith(field or "")


def test_a_repeated_key_gets_the_first_result_or_a_conflict(front: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = front.post("/students/enroll", json=ask(), headers=key | {"Prefer": "wait=20"})
    assert first.status_code == 200
    again = front.post("/students/enroll", json=ask(), headers=key)
    assert (again.status_code, again.json()) == (200, first.json())
    other = front.post("/students/enroll", json=ask("HC2"), headers=key)
    assert other.status_code == 409
    assert other.json()["errors"][0]["code"] == "request_id_reused"


def test_a_student_is_found_whatever_its_id_holds(front: httpx.Client) -> None:
    found = front.get("/students/H%2F2%3F%23%C3%BC")
    assert found.json()["sis_id"] == "H/2?#ü"
    assert front.get(f"/students/key:{found.json()['id']}").json() == found.json()
    assert front.get("/students/nobody%20of%20HTTP").status_code == 404
    assert front.get("/students/H%2F2%3F%23%C3%BC/results").status_code == 200


def test_results_come_newest_first_in_pages(front: httpx.Client) -> None:
    for _ in range(5):
        front.post("/students/enroll", json=ask(student="pages"), headers={"Prefer": "wait=20"})
    whole = front.get("/students/pages/results").json()["results"]
    assert len(whole) == 5
    found, cursor = [], None
    for _ in range(4):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = front.get("/students/pages/results", params=query).json()
        found += page["results"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == whole
    bad = front.get("/students/pages/results", params={"cursor": "x"})
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_cursor")


def test_a_batch_is_found_again_in_the_list(front: httpx.Client) -> None:
    submitted: list[str] = []
    for number in range(3):
        file = (f"list-{number}.csv", f"sis_id\nlist-{number}-{uuid.uuid4()}\n", "text/csv")
        kind = {"kind": "courses" if number else "students"}
        answer = front.post("/batches", files={"file": file}, params=kind)
        wait_for(lambda: front.get(answer.headers["location"]).json()["state"] == "done")  # noqa: B023
        submitted.insert(0, answer.json()["batch_id"])
    first = front.get("/batches", params={"limit": 2}).json()
    second = front.get("/batches", params={"limit": 2, "cursor": first["next"]}).json()
    listed = [*first["batches"], *second["batches"]][:3]
    assert [batch["batch_id"] for batch in listed] == submitted
    assert [batch["file_name"] for batch in listed] == ["list-2.csv", "list-1.csv", "list-0.csv"]
    alone = front.get(f"/batches/{submitted[0]}").json()
    assert listed[0] == {**alone, "columns": None, "form": None, "refusals": []}
    students = front.get("/batches", params={"kind": "students", "state": "done", "limit": 1})
    assert [batch["batch_id"] for batch in students.json()["batches"]] == submitted[2:]
    for cursor in ("x", "\x00", "A" * 400, first["next"][:-8]):
        bad = front.get("/batches", params={"cursor": cursor})
        assert (bad.status_code, bad.json()["code"]) == (422, "bad_cursor")


def test_a_file_with_mistakes_is_submitted_and_its_refusals_are_read(front: httpx.Client) -> None:
    text = "student_sis_id,course_sis_id,note\nH1,HC1,a\nH1,NOPE,b\nghost,HC1,c\n"
    answer = front.post("/batches", content=text, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 202, answer.text
    where = answer.headers["location"]
    with front.stream("GET", f"{where}/events") as events:
        last = [line for line in events.iter_lines() if line.startswith("data: ")][-1]
    assert '"state":"done"' in last
    books = front.get(where).json()["books"]
    assert (books["received"], books["rejected"], books["not_applied"]) == (3, 2, 0)
    groups = front.get(f"{where}/errors").json()
    assert {group["code"]: group["first_lines"] for group in groups} == {
        "unknown_course": [3],
        "unknown_student": [4],
    }
    lines = front.get(f"{where}/errors", headers={"Accept": "text/csv"})
    assert lines.headers["content-type"].startswith("text/csv")
    assert lines.text.splitlines()[1].startswith("3,unknown_course,")
    assert lines.text.splitlines()[1].endswith(",H1,NOPE,b")


def test_a_file_is_previewed_without_a_broker(tmp_path: Path) -> None:
    environment = {**os.environ, "ENROLL_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    text = b"student_sis_id,course_sis_id\nH1,HC1\n,HC1\n" + b"H1,HC2\n" * 400_000
    with (
        serving(environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        for body in ({"content": text}, {"files": {"file": ("a.csv", text)}}):
            preview = client.post("/batches/preview", params={"limit": 2}, **body).json()
            assert (preview["kind"], preview["truncated"]) == ("enrollments", True)
            assert [row["line"] for row in preview["rows"]] == [2, 4]
            assert [line["line"] for line in preview["refused"]] == [3]
        # The connection of a body that was not read to its end goes on to work.
        empty = client.post("/batches/preview", content=b"").json()
        assert (empty["readable"], empty["truncated"]) == (False, False)


def test_the_refused_lines_for_a_spreadsheet_are_submitted_again(front: httpx.Client) -> None:
    content = b'student_sis_id,course_sis_id,note\n=H1,HC1,a\n\'-1,HC1,"two\n=lines"\n'
    for _ in range(2):
        where = front.post("/batches", content=content).headers["location"]
        with front.stream("GET", f"{where}/events") as events:
            assert '"state":"done"' in [line for line in events.iter_lines() if line][-1]
        (group,) = front.get(f"{where}/errors").json()
        assert (group["count"], group["example"]) == (2, "no student has the SIS id '=H1'")
        query = {"form": "spreadsheet"}
        lines = front.get(f"{where}/errors", headers={"Accept": "text/csv"}, params=query)
        rows = list(csv.reader(io.StringIO(lines.content.decode("utf-8-sig"), newline="")))
        assert [row[4:] for row in rows[1:]] == [
            ["'=H1", "HC1", "a"],
            ["''-1", "HC1", "two\n'=lines"],
        ]
        content = lines.content


def test_the_likely_cause_of_an_unknown_id_is_returned(front: httpx.Client) -> None:
    text = 'student_sis_id,course_sis_id\nh1,HC1\n"=""H1""",HC1\n'
    where = front.post("/batches", content=text, headers={"Content-Type": "text/csv"}).headers[
        "location"
    ]
    with front.stream("GET", f"{where}/events") as events:
        last = [line for line in events.iter_lines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["refusals"][0]["examined"] == 2
    (group,) = front.get(f"{where}/errors").json()
    assert group == front.get(where).json()["refusals"][0]
    found = {cause["causes"][0]: cause["examples"] for cause in group["likely_causes"]}
    assert found == {
        "letter_case": [{"id": "h1", "meant": ["H1"]}],
        "quoted": [{"id": '="H1"', "meant": ["H1"]}],
    }


def test_a_multipart_upload_with_mapped_columns_is_submitted(front: httpx.Client) -> None:
    text = b"who,what\nH1,HC1\n"
    maps = {"map": ["student_sis_id={who}", "course_sis_id={what}"]}
    answer = front.post("/batches", params=maps, files={"file": ("a.csv", text, "text/csv")})
    assert (answer.status_code, answer.json()["rows"]) == (202, 1)
    none = front.post("/batches", data={"a": "b"}, files={"x": (None, b"no file")})
    assert (none.status_code, none.json()["code"]) == (422, "unreadable_file")


def test_integers_in_json_lines_are_noticed_and_numbers_in_csv_are_sis_ids(
    front: httpx.Client,
) -> None:
    records = b'{"student_id": 2147483647, "course_ids": ["HC1"]}\n'
    (notice,) = front.post("/batches", content=records).json()["notices"]
    assert "line 1 has the integer 2147483647" in notice
    answer = front.post("/batches", content=b"student_id,course_id\n2147483647,HC1\n").json()
    assert answer["notices"] == []
    wait_for(lambda: front.get(answer["url"]).json()["state"] == "done")
    (group,) = front.get(f"{answer['url']}/errors").json()
    assert group["example"] == "no student has the SIS id '2147483647'"


@pytest.mark.parametrize(
    ("body", "words", "field"),
    [
        (b"", "empty", None),
        (b"a,b\n1,2\n", "first line", "kind"),
        (b"student_id,b\n1,2\n", "map another column", "map"),
        (b"\x00\x01", "binary", None),
        (b"%PDF-1.7", "PDF document", None),
    ],
)
def test_a_body_that_cannot_be_understood_is_a_problem(
    front: httpx.Client, body: bytes, words: str, field: str | None
) -> None:
    answer = front.post("/batches", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_file")
    assert words in answer.json()["detail"]
    assert "--" not in answer.json()["detail"]
    assert answer.json().get("field") == field


def test_a_batch_id_is_not_submitted_twice_nor_with_a_different_file(front: httpx.Client) -> None:
    name = f"http-{uuid.uuid4().hex}"
    text = "student_sis_id,course_sis_id\nH1,HC2\n"
    assert front.post("/batches", params={"batch_id": name}, content=text).status_code == 202
    wait_for(lambda: front.get(f"/batches/{name}").json()["state"] == "done")
    assert front.post("/batches", params={"batch_id": name}, content=text).status_code == 202
    other = front.post("/batches", params={"batch_id": name}, content=text + "H1,HC1\n")
    assert (other.status_code, other.json()["code"]) == (409, "batch_conflict")


@pytest.mark.parametrize(
    "path",
    [
        *("/requests/nobody", "/batches/nobody", "/batches/nobody/events"),
        *("/students/key:0", "/students/key:2147483648/results", f"/students/key:{'9' * 5000}"),
    ],
)
def test_an_id_that_was_never_submitted_is_not_found(front: httpx.Client, path: str) -> None:
    answer = front.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"].startswith("unknown_")


def test_every_response_has_an_id_that_the_worker_logs_too(
    front: httpx.Client, deployment: Deployment
) -> None:
    mine = f"call-{uuid.uuid4().hex}"
    answer = front.get("/students/H1", headers={"X-Request-ID": mine})
    assert answer.headers["x-request-id"] == mine
    assert len(front.get("/health/live").headers["x-request-id"]) == 32
    with Redis.from_url(deployment.broker_url) as redis:
        # These are the task ids in the worker's log, under which results are stored.
        assert list(redis.scan_iter(f"celery-task-meta-{mine}.*", 1000))


def test_health_docs_and_page_are_served(front: httpx.Client) -> None:
    assert front.get("/health/ready").json() == {"status": "ready"}
    for path in ("/", "/docs"):
        text = front.get(path).text
        assert "http://" not in text
        assert "https://" not in text
    paths = front.get("/openapi.json").json()["paths"]
    assert "/students/enroll" in paths


def test_the_limits_are_enforced(deployment: Deployment, tmp_path: Path) -> None:
    bounds = {"ENROLL_HTTP_MAX_UPLOAD": "1000", "ENROLL_HTTP_RATE": "5"}
    with (
        serving(deployment.environment | bounds, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        large = client.post("/batches", content=b"x" * 1001)
        assert (large.status_code, large.json()["code"]) == (413, "too_large")

        def pieces() -> Iterator[bytes]:
            yield b"sis_id,name\n"
            yield b"A,B\n" * 500

        assert client.post("/batches", content=pieces()).status_code == 413
        huge = [b"[" + b"1," * 600_000 + b"1]"]
        assert client.post("/students/enroll", content=huge[0]).status_code == 413
        assert client.post("/students/enroll", content=iter(huge)).status_code == 413
        answers = [client.get("/health/live") for _ in range(80)]
        slow = [answer for answer in answers if answer.status_code == 429]
        assert slow
        assert slow[0].headers["retry-after"] == "1"


def test_event_streams_take_no_room_from_other_calls(
    deployment: Deployment, tmp_path: Path
) -> None:
    full = deployment.environment | {"ENROLL_HTTP_MAX_STREAMS": "2"}
    mark = '{"state": "queued", "chunks": 1}'
    with (
        Redis.from_url(deployment.broker_url) as redis,
        serving(full, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        redis.set("enrollment:batch:endless", mark, ex=60)
        with (
            client.stream("GET", "/batches/endless/events") as first,
            client.stream("GET", "/batches/endless/events") as second,
        ):
            assert (first.status_code, second.status_code) == (200, 200)
            refused = client.get("/batches/endless/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            for path in ("/students/H1", "/batches/endless", "/health/live", "/health/ready"):
                assert client.get(path).status_code == 200

        def has_room() -> bool:
            with client.stream("GET", "/batches/endless/events") as again:
                return again.status_code == 200

        wait_for(has_room)


def test_tokens_are_required_and_scopes_enforced(deployment: Deployment, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    lines = [
        f"{name} {scopes} {hashlib.sha256(name.encode()).hexdigest()}"
        for name, scopes in (("reader", "read"), ("sis", "submit,lookup"), ("sis2", "submit"))
    ]
    tokens.write_text("# who may call\n\n" + "\n".join(lines) + "\n")
    with (
        serving(deployment.environment, tmp_path / "log", "--tokens", str(tokens)) as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):

        def status(path: str, token: str | None, **options: Any) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            method = "POST" if options else "GET"
            return client.request(method, path, headers=headers, **options).status_code

        assert status("/students/nobody", None) == 401
        assert status("/students/nobody", "wrong") == 401
        assert status("/students/nobody", "reader") == 404
        assert status("/students/nobody", "sis2") == 403
        assert status("/students/enroll", "reader", json=ask()) == 403
        assert status("/students/enroll", "sis2", json=ask()) == 202
        assert status("/health/live", None) == 200
    assert "reader" not in (tmp_path / "log").read_text()


def test_without_tokens_only_loopback_is_served(deployment: Deployment) -> None:
    done = deployment.enroll("serve", "--host", "0.0.0.0", expect=USAGE)  # noqa: S104
    assert "only on loopback" in done.stderr


def test_an_unavailable_broker_is_reported_in_time(tmp_path: Path) -> None:
    environment = {**os.environ, "ENROLL_BROKER_URL": f"redis://:secret@127.0.0.1:{free_port()}/0"}
    with serving(environment, tmp_path / "log") as (url, process):
        watch = Stopwatch(process.pid)
        answer = httpx.post(f"{url}/students/enroll", json=ask(), timeout=60)
        assert watch.seconds() < 10
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    assert answer.headers["retry-after"]
    assert "secret" not in answer.text + (tmp_path / "log").read_text()


def test_a_body_that_stops_arriving_times_out(broker_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "ENROLL_BROKER_URL": broker_url, "ENROLL_HTTP_BODY_WAIT": "0.5"}

    def pieces() -> Iterator[bytes]:
        yield b"student_sis_id,course_sis_id\n"
        time.sleep(3)

    with serving(environment, tmp_path / "log") as (url, process):
        watch = Stopwatch(process.pid)
        with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port)) as stalled:
            head = f"POST /students/enroll HTTP/1.1\r\nHost: {httpx.URL(url).netloc.decode()}\r\n"
            stalled.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            stalled.settimeout(60)
            received = stalled.recv(4096)
        assert received.startswith(b"HTTP/1.1 408")
        assert httpx.post(f"{url}/batches", content=pieces(), timeout=60).status_code == 408
        assert watch.seconds() < 6


def test_without_a_worker_a_request_with_a_key_is_accepted_and_done_later(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    with (
        running_valkey(tmp_path / "valkey") as broker,
        serving(
            worker_environment(broker.connection_url, "unused") | {"ENROLL_TIMEOUT": "1"},
            tmp_path / "http.log",
        ) as (url, _),
        httpx.Client(base_url=url, timeout=30) as front,
    ):
        key = {"Idempotency-Key": "while-nobody-works"}
        answers = [front.post("/students/enroll", json=ask(), headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        place = answers[0].headers["location"]
        assert front.get(place).status_code == 503
        csv = {"Accept": "text/csv"}
        assert front.get("/batches/some/errors", headers=csv).status_code == 503
        with running_worker(broker.connection_url, new_database("sqlite"), tmp_path / "log"):
            wait_for(lambda: front.get(place).json().get("state") == "done")
            assert front.get(place).json()["result"]["errors"][0]["code"] == "unknown_student"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8000"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_without_tokens_a_foreign_page_is_refused(
    front: httpx.Client, headers: dict[str, str]
) -> None:
    answer = front.post("/students/enroll", json=ask(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign")


def test_without_tokens_its_own_page_is_served_on_every_loopback_name(front: httpx.Client) -> None:
    port = front.base_url.port
    for host in ("localhost", "127.0.0.1", "[::1]"):
        headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}"}
        assert front.post("/students/enroll", json=ask(), headers=headers).status_code == 202


def test_a_compressed_body_is_refused_and_its_encoding_named(front: httpx.Client) -> None:
    answer = front.post("/batches", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert "gzip" in answer.json()["detail"]


def test_an_upload_of_two_files_is_refused(front: httpx.Client) -> None:
    rows = b"sis_id,name\nH1,Ada\n"
    files = [("file", ("one.csv", rows)), ("file", ("two.csv", rows))]
    answer = front.post("/batches", files=files)
    assert answer.status_code == 422
    assert "several files" in answer.json()["detail"]


def test_a_file_of_enrollments_waits_for_the_rosters_of_the_same_caller(
    front: httpx.Client,
) -> None:
    name = uuid.uuid4().hex
    students = "sis_id,name\n" + "".join(f"{name}-{n},N\n" for n in range(20_000))
    courses = f"sis_id,title\nC-{name},T\n"
    pairs = "student_id,course_id\n" + "".join(
        f"{name}-{n},C-{name}\n" for n in range(19_500, 20_000)
    )
    for content in (courses, students, pairs):
        answer = front.post("/batches", content=content, headers={"Content-Type": "text/csv"})
        assert answer.status_code == 202
    where = answer.headers["location"]
    wait_for(lambda: front.get(where).json()["state"] == "done")
    books = front.get(where).json()["books"]
    assert (books["enrolled"], books["rejected"]) == (500, 0)
