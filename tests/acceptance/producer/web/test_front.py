"""The HTTP front at its edges: bounds, proxies, processes, its end, and what it gives away."""

import contextlib
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from redis import Redis

from producer.contract.keys import Keys
from support.front_load import frozen, stopped
from support.http import serving
from support.rosters import enter_roster
from support.stopwatch import Stopwatch
from support.valkey import free_port, running_valkey
from support.waiting import wait_for
from support.workers import Deployment, worker_environment

pytestmark = pytest.mark.one_database
PAIRS = b"student_id,course_id\nF1,FC1\n"


def tokens_file(folder: Path, *names: str) -> Path:
    path = folder / "tokens"
    digests = [(name, hashlib.sha256(name.encode()).hexdigest()) for name in names]
    path.write_text("".join(f"{name} submit,lookup {digest}\n" for name, digest in digests))
    path.chmod(0o600)
    return path


@pytest.fixture
def lone_front(tmp_path: Path) -> Iterator[Any]:
    """A front with a broker of its own and no worker; gives address, process and broker's URL."""
    with running_valkey(tmp_path / "valkey") as broker:
        environment = worker_environment(f"{broker.connection_url}/0", "unused")
        environment |= {"ENROLL_HTTP_GRACE": "1", "ENROLL_TIMEOUT": "30"}
        with serving(environment, tmp_path / "log") as (url, process):
            yield url, process, f"{broker.connection_url}/0"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/students/{'9' * 5000}", 422),
        ("GET", f"/students/key:{'9' * 5000}/results", 404),
        ("GET", f"/students/{'x' * 256}", 422),
        ("GET", "/students/%00/results", 422),
        ("GET", "/students/a%00b/history", 422),
        ("GET", f"/courses/{'x' * 256}/students", 422),
        ("GET", "/courses/%00/students", 422),
        ("GET", f"/requests/{'x' * 256}", 404),
        ("GET", "/requests/%00", 404),
        ("GET", f"/batches/{'x' * 256}", 404),
        ("GET", "/batches/%00/events", 404),
        ("GET", "/students/F1/results?cursor=%00", 422),
        ("GET", "/students/F1/results?cursor=W10=", 422),
        ("GET", f"/students/F1/results?cursor={'W' * 396}", 422),
        ("GET", "/students/F1/history?before=yesterday", 422),
        ("GET", f"/courses/FC1/students?after={'9' * 5000}", 422),
        ("GET", "/courses/FC1/students?at=%00", 422),
        ("POST", f"/batches?batch_id={'x' * 129}", 422),
        ("POST", "/batches?batch_id=%00", 422),
        ("POST", "/batches?encoding=%00", 422),
        ("POST", "/batches?map=%00=%00", 422),
        ("DELETE", "/students/F1/courses/%00", 422),
        ("DELETE", f"/students/F1/courses/FC1?request_id={'x' * 129}", 422),
        ("DELETE", "/students/F1/courses/FC1?as_of=%00", 422),
    ],
)
def test_a_mistake_of_the_caller_is_called_one(
    front: httpx.Client, method: str, path: str, status: int
) -> None:
    content = PAIRS if method == "POST" else None
    answer = front.request(method, path, content=content)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (f"multipart/form-data; boundary={'b' * 5000}", b"x"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n"),
        ("multipart/form-data; boundary=b", b"--c\r\n" * 1000),
        ("multipart/form-data; boundary=\xff", b"--\xff\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 100 + b"--b--",
        ),
    ],
)
def test_a_malformed_form_is_the_callers_mistake(
    front: httpx.Client, content_type: str, body: bytes
) -> None:
    headers = {"Content-Type": content_type.encode("latin-1")}
    answer = front.post("/batches", content=body, headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_file")


@pytest.mark.parametrize("element", [b'""', b"0", b"{}", b"[]", b"null"])
@pytest.mark.parametrize("field", [b"course_ids", b"drop_course_ids", b"student_id", b"unknown"])
def test_a_body_with_very_many_mistakes_holds_up_no_other_call(
    front: httpx.Client, front_process: int, field: bytes, element: bytes
) -> None:
    elements = b",".join([element] * (1_000_000 // (len(element) + 1)))
    body = b'{"student_id": "F1", "%s": [%s]}' % (field, elements)
    statuses: list[int] = []

    def send() -> None:
        headers = {"Content-Type": "application/json"}
        statuses.append(front.post("/students/enroll", content=body, headers=headers).status_code)

    sending = threading.Thread(target=send)
    sending.start()
    slowest = 0.0
    while sending.is_alive():
        watch = Stopwatch(os.getpid(), front_process)
        assert front.get("/health/live").status_code == 200
        slowest = max(slowest, watch.seconds())
    sending.join()
    assert statuses == [422]
    assert slowest < 1


@pytest.mark.parametrize(
    "name", ["Authorization", "Content-Type", "Host", "Idempotency-Key", "Origin"]
)
def test_a_header_that_counts_once_is_refused_twice(front: httpx.Client, name: str) -> None:
    address = (front.base_url.host, front.base_url.port)
    host = f"Host: {address[0]}:{address[1]}"
    headers = f"{name}: one\r\n{name}: other" if name != "Host" else host
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(f"GET /students/F1 HTTP/1.1\r\n{host}\r\n{headers}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"repeated_header" in answer


def test_responses_are_not_stored_and_do_not_name_the_server(front: httpx.Client) -> None:
    for path in (
        "/students/F1",
        "/students/F1/results",
        "/requests/none",
        "/health/ready",
        "/docs",
    ):
        answer = front.get(path)
        assert "no-store" in answer.headers["cache-control"] or path == "/docs"
        assert "server" not in answer.headers


def test_health_names_no_address(lone_front: Any) -> None:
    url, _, broker_url = lone_front
    port = str(httpx.URL(broker_url).port)
    with frozen(broker_url):
        answer = httpx.get(f"{url}/health/ready", timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (503, "no_worker")
    assert port not in answer.text
    with Redis.from_url(broker_url) as redis:
        redis.shutdown(nosave=True)
    wait_for(lambda: _readiness(url).json()["code"] == "broker_unavailable")
    assert port not in _readiness(url).text
    answer = httpx.get(f"{url}/students/F1", timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    assert port not in answer.text
    assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200


def _readiness(url: str) -> httpx.Response:
    return httpx.get(f"{url}/health/ready", timeout=20)


def test_readiness_is_asked_once_for_all(lone_front: Any) -> None:
    url, process, broker_url = lone_front
    watch = Stopwatch(os.getpid(), process.pid)
    threads = [threading.Thread(target=_readiness, args=(url,)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.seconds() < 10
    with Redis.from_url(broker_url) as redis:
        assert redis.llen("lookups") <= 3


@pytest.mark.parametrize("trusted", [False, True])
def test_calls_are_counted_by_a_trusted_proxys_word_only(
    broker_url: str, tmp_path: Path, *, trusted: bool
) -> None:
    environment = {**os.environ, "ENROLL_BROKER_URL": broker_url, "ENROLL_HTTP_RATE": "1"}
    if trusted:
        environment["ENROLL_HTTP_PROXIES"] = "127.0.0.1"
    with (
        serving(environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        statuses = set()

        def has_called_often(turn: int) -> bool:
            for number in range(60):
                headers = {"X-Forwarded-For": f"10.0.{turn}.{number}"}
                statuses.add(client.get("/openapi.json", headers=headers).status_code)
            return trusted or 200 in statuses  # Others may have used up a second of the clock.

        assert any(has_called_often(turn) for turn in range(100))
    assert statuses == ({200} if trusted else {200, 429})


def test_the_rate_counts_for_each_token(broker_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "ENROLL_BROKER_URL": broker_url, "ENROLL_HTTP_RATE": "3"}
    tokens = tokens_file(tmp_path, "one", "other")
    with (
        serving(environment, tmp_path / "log", "--tokens", str(tokens)) as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):

        def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return client.post("/students/enroll", headers=headers, content=b"{").status_code

        def statuses() -> tuple[list[int], int] | None:
            """Return the statuses of calls within one second; None if they took longer."""
            time.sleep(1 - time.monotonic() % 1)  # The beginning of a second.
            second = int(time.monotonic())
            found = [status("one") for _ in range(5)], status("other")
            return found if int(time.monotonic()) == second else None

        found = next(found for _ in range(60) if (found := statuses()) is not None)
        assert found == ([422, 422, 422, 429, 429], 422)


def test_several_processes_serve_one_port_and_end_together(
    deployment: Deployment, tmp_path: Path
) -> None:
    with serving(deployment.environment, tmp_path / "log", "--processes", "3") as (url, process):
        servers = psutil.Process(process.pid).children(recursive=True)
        pids = {server.pid for server in servers if "resource_tracker" not in server.cmdline()[-1]}
        assert len(pids) >= 3
        assert httpx.get(f"{url}/health/ready", timeout=20).status_code == 200
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM)
        assert not any(psutil.pid_exists(pid) for pid in pids)


def test_sigterm_ends_the_front_whatever_its_calls_wait_for(
    deployment: Deployment, tmp_path: Path
) -> None:
    environment = deployment.environment | {"ENROLL_HTTP_GRACE": "1"}
    request_id = uuid.uuid4().hex
    with (
        serving(environment, tmp_path / "log") as (url, process),
        Redis.from_url(deployment.broker_url) as redis,
    ):
        redis.set(Keys().batch("endless"), '{"state": "queued", "chunks": 1}', ex=600)
        address = (httpx.URL(url).host, httpx.URL(url).port)
        answers: list[httpx.Response] = []

        def wait_for_a_result() -> None:
            body = {"student_id": "F1", "course_ids": ["FC1"]}
            headers = {"Prefer": "wait=60", "Idempotency-Key": request_id}
            answers.append(
                httpx.post(f"{url}/students/enroll", json=body, headers=headers, timeout=90)
            )

        waiting = threading.Thread(target=wait_for_a_result)
        with (
            socket.create_connection(address) as slow,
            socket.create_connection(address) as silent,
            httpx.stream("GET", f"{url}/batches/endless/events", timeout=90) as stream,
        ):
            events = stream.iter_lines()
            assert next(events).startswith("data: ")
            head = "POST /batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nstu"
            slow.sendall(head.encode())
            silent.sendall(b"GET / HT")
            with stopped(deployment.process.pid):
                waiting.start()
                wait_for(lambda: bool(redis.exists(Keys().request(request_id))))
                watch = Stopwatch(process.pid)
                process.terminate()
                process.wait(60)
                assert watch.seconds() < 10
            assert not any(event.startswith("data: ") for event in list(events)[-1:])
        waiting.join()
    assert answers[0].status_code == 202


def test_a_call_that_is_still_busy_at_the_end_is_told_to_try_again(
    deployment: Deployment, tmp_path: Path
) -> None:
    environment = deployment.environment | {"ENROLL_HTTP_GRACE": "1"}
    answers: list[httpx.Response] = []

    def upload(url: str) -> None:
        rows = PAIRS + b'"' + b"x\n" * 6_000_000  # They take many seconds to read.
        answers.append(httpx.post(f"{url}/batches", content=rows, timeout=120))

    log = tmp_path / "log"
    with serving(environment, log) as (url, process):
        reading = psutil.Process(process.pid).cpu_times
        before = reading().user
        uploading = threading.Thread(target=upload, args=(url,))
        uploading.start()
        wait_for(lambda: reading().user > before + 0.5)
        process.terminate()
        process.wait(60)
        uploading.join()
    (answer,) = answers
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    assert answer.headers["retry-after"] == "5"
    assert "Traceback" not in log.read_text()


def test_idle_connections_do_not_use_up_the_open_files(broker_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "ENROLL_BROKER_URL": broker_url}
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = f'ulimit -S -n 256; exec "{sys.executable}" -m producer serve --port {{port}}'
    port = free_port()
    assert hard > 1_000
    with (tmp_path / "log").open("wb") as log, contextlib.ExitStack() as idle:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command.format(port=port)], env=environment, stdout=log, stderr=log
        )
        try:
            wait_for(lambda: _is_live(port))
            for _ in range(300):
                idle.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert _is_live(port)
        finally:
            process.terminate()
            process.wait(60)


def _is_live(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=30).status_code == 200
    return False


def test_a_caller_who_goes_away_waits_no_longer(broker_url: str, tmp_path: Path) -> None:
    environment = worker_environment(broker_url, "unused") | {"ENROLL_HTTP_MAX_WAITING": "2"}
    body = b'{"student_id": "F1", "course_ids": ["FC1"]}'
    head = (
        "POST /students/enroll HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    headers = {"Content-Type": "application/json", "Prefer": "wait=1"}
    with serving(environment, tmp_path / "log") as (url, _):
        address = (httpx.URL(url).host, httpx.URL(url).port)
        for _ in range(3):
            with (
                socket.create_connection(address) as one,
                socket.create_connection(address) as other,
            ):
                one.sendall(head.encode() + body)
                other.sendall(head.encode() + body)
                time.sleep(0.3)

        def has_room() -> bool:
            answer = httpx.post(f"{url}/students/enroll", content=body, headers=headers, timeout=20)
            return answer.status_code == 202

        wait_for(has_room, 30)  # Callers who stay would have waited for a minute.


def test_an_upload_that_is_cut_off_publishes_nothing(lone_front: Any) -> None:
    url, _, broker_url = lone_front
    address = (httpx.URL(url).host, httpx.URL(url).port)
    with socket.create_connection(address) as connection:
        head = "POST /batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n"
        connection.sendall(head.encode() + PAIRS + b"F1,FC1\n" * 100_000)
        time.sleep(0.5)
    time.sleep(0.5)
    with Redis.from_url(broker_url) as redis:
        assert redis.llen("batches") == 0
    assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200


def test_forty_uploads_in_pieces_are_all_accepted(deployment: Deployment, tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield PAIRS
        for _ in range(5):
            time.sleep(0.1)
            yield b"F1,FC1\n"

    statuses: list[int] = []

    def upload(url: str) -> None:
        statuses.append(httpx.post(f"{url}/batches", content=pieces(), timeout=60).status_code)

    with serving(deployment.environment, tmp_path / "log") as (url, _):
        threads = [threading.Thread(target=upload, args=(url,)) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [202] * 40


@pytest.fixture(scope="module")
def front(served: tuple[httpx.Client, int]) -> httpx.Client:
    return served[0]


@pytest.fixture(scope="module")
def front_process(served: tuple[httpx.Client, int]) -> int:
    """The process id of the front."""
    return served[1]


@pytest.fixture(scope="module")
def served(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("edges")
    from producer.client import EnrollmentClient  # noqa: PLC0415

    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["F1"], ["FC1"])
    with (
        serving(deployment.environment, folder / "log") as (url, process),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client, process.pid
    assert "Traceback" not in (folder / "log").read_text()
