"""Redis fails over: workers, clients and the HTTP front go on within ten seconds, not restarted.

Each strike swaps the roles of two servers while connections are open. Afterwards every kind of call
works again, through both processes of the worker's pool; nothing is lost or duplicated.
"""

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from redis import Redis
from sqlalchemy import func, select

from producer.client import EnrollmentClient
from producer.contract.redis_connection import MAX_AGE
from producer.errors import EnrollmentError
from producer.schemas import Kind, RequestState
from support.broker import Broker
from support.http import NO_TLS, serving
from support.paths import ROOT
from support.requirements import require_program
from support.rosters import enter_roster, finished
from support.sentinels import Sentinels, sentinels
from support.stopwatch import Stopwatch
from support.valkey import cut_connections
from support.waiting import wait_for
from support.workers import Deployment, running_worker
from worker.database.engine import make_engine
from worker.models import EnrollmentResult

WITHIN = 10.0
QUIET = MAX_AGE + 2
"""Seconds without a failure after which there is no connection left that could fail."""

PASSWORDS = {"password": "of/the@servers", "sentinel_password": "of;the&sentinels"}
STUDENTS = [f"S{number}" for number in range(50)]


@dataclass
class Running:
    """A worker with two processes, and a client and an HTTP front whose connections stay open."""

    deployment: Deployment
    client: EnrollmentClient
    http: str
    http_process: int

    def lookup(self) -> object:
        return self.client.status("unheard-of").state is RequestState.UNKNOWN

    def enroll(self) -> object:
        return self.client.enroll({"student_id": "S1", "course_ids": ["C"]}, timeout=3).status

    def ask_over_http(self) -> object:
        url = f"{self.http}/students/S1"
        return httpx.get(url, timeout=15, verify=NO_TLS).raise_for_status().text

    def submit_over_http(self) -> object:
        body = {"student_id": "S1", "course_ids": ["C"]}
        return (
            httpx.post(f"{self.http}/students/enroll", json=body, timeout=15, verify=NO_TLS)
            .raise_for_status()
            .text
        )

    def time_until_all_works(self) -> float:
        """Return the seconds until the last failure; then every kind of call works for a while.

        Seconds in which a busy machine kept the processes from going on do not count.
        """
        own = os.getpid(), self.deployment.process.pid, self.http_process
        watch = Stopwatch(*own, families=True)
        failed, seconds = watch.started, 0.0
        while time.monotonic() < failed + QUIET:
            for call in (self.lookup, self.enroll, self.ask_over_http, self.submit_over_http):
                if not works(call):
                    failed, seconds = time.monotonic(), watch.seconds()
                    assert failed < watch.started + 60, f"{call.__name__} still fails"
            time.sleep(0.2)
        return seconds


@contextlib.contextmanager
def running(url: str, database_url: str, folder: Path) -> Iterator[Running]:
    log = folder / "worker.log"
    with (
        running_worker(url, database_url, log, "--concurrency=2") as deployment,
        EnrollmentClient(url, timeout=3) as client,
        serving(deployment.environment | {"ENROLL_TIMEOUT": "3"}, folder / "http.log") as front,
    ):
        enter_roster(client, STUDENTS, ["C"])
        http, process = front
        made = Running(deployment, client, http, process.pid)
        made.time_until_all_works()
        yield made


def works(call: Callable[[], object]) -> bool:
    with contextlib.suppress(EnrollmentError, httpx.HTTPError):
        return bool(call())
    return False


class Submitter(threading.Thread):
    """Submits requests all the time, each again under its id until the broker has taken it."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._over = threading.Event()
        self.ids: list[str] = []

    def run(self) -> None:
        with EnrollmentClient(self._url, timeout=3) as client:
            while not self._over.is_set():
                request_id = f"request-{len(self.ids)}"
                student = STUDENTS[len(self.ids) % len(STUDENTS)]
                while True:
                    with contextlib.suppress(EnrollmentError):
                        client.submit(request(student, request_id))
                        break
                    self._over.wait(0.1)
                self.ids.append(request_id)
                self._over.wait(0.01)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(60)


def request(student: str, request_id: str) -> dict[str, Any]:
    return {"student_id": student, "course_ids": ["C"], "request_id": request_id}


def strike_and_check(
    running: Running, strikes: list[Callable[[], None]], *, may_lose: bool = False
) -> None:
    """Strike while requests and a batch are on their way, and check that all have one result."""
    times = []
    with Submitter(running.deployment.broker_url) as submitter:
        for number, strike in enumerate(strikes):
            times.append(strike_during_a_batch(running, number, strike, may_lose=may_lose))
    print(f"all works again after {', '.join(f'{seconds:.1f}' for seconds in times)} s")
    check_results(running, submitter.ids, may_lose=may_lose)
    assert max(times) < WITHIN
    assert running.deployment.process.poll() is None


def strike_during_a_batch(
    running: Running, number: int, strike: Callable[[], None], *, may_lose: bool
) -> float:
    """Return the seconds until all works again; check that the whole batch is applied."""
    name = f"batch{number}"
    records = [request(student, f"{name}-{index}") for index, student in enumerate(STUDENTS * 20)]
    running.client.submit_batch(Kind.ENROLLMENTS, records, batch_id=name)
    strike()
    seconds = running.time_until_all_works()
    if may_lose:
        # What the submitter is told to do: submit the same records under the same batch id.
        running.client.submit_batch(Kind.ENROLLMENTS, records, batch_id=name)
    assert finished(running.client, name).books.received == len(records)
    return seconds


def check_results(running: Running, ids: list[str], *, may_lose: bool) -> None:
    """Check that each request has one result; without replication's gap, none was lost."""
    lost: list[str] = []

    def all_done() -> bool:
        statuses = running.client.statuses(ids)
        lost[:] = [s.request_id for s in statuses if s.state is RequestState.UNKNOWN]
        return all(s.state in (RequestState.DONE, RequestState.UNKNOWN) for s in statuses)

    wait_for(all_done)
    assert may_lose or not lost
    for request_id in lost:
        number = int(request_id.removeprefix("request-"))
        running.client.submit(request(STUDENTS[number % len(STUDENTS)], request_id))
    wait_for(lambda: all_done() and not lost)
    engine = make_engine(running.deployment.database_url)
    with engine.connect() as connection:
        count = select(func.count()).where(EnrollmentResult.request_id.in_(ids))
        assert connection.execute(count).scalar() == len(ids)
    engine.dispose()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", ["valkey", "redis-server"])
def test_a_switchover_behind_one_name_is_survived(
    tmp_path: Path, new_database: Callable[[str], str], program: str
) -> None:
    binary = None if program == "valkey" else require_program(program)

    def switch(servers: Broker, gap: float = 0) -> None:
        servers.switch_over()
        time.sleep(gap)  # The name lags behind.
        servers.move_names()

    with (
        contextlib.closing(
            Broker(tmp_path / "servers", replicated=True, program=binary)
        ) as servers,
        running(servers.url, new_database("postgresql"), tmp_path) as made,
    ):
        strike_and_check(
            made,
            [partial(switch, servers), partial(switch, servers, 1.0), partial(switch, servers)],
        )


@pytest.mark.long
def test_a_name_that_moves_is_followed_while_the_former_server_is_still_a_master(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with (
        contextlib.closing(Broker(tmp_path / "servers", replicated=True)) as servers,
        running(servers.url, new_database("sqlite"), tmp_path) as made,
    ):
        servers.promote()
        servers.move_names()
        assert made.time_until_all_works() < WITHIN


def kill(servers: Sentinels) -> None:
    lost = servers.master
    lost.kill()
    servers.wait_for_successor(lost)
    lost.start()


def freeze(servers: Sentinels) -> None:
    lost = servers.master
    with lost.frozen():
        servers.wait_for_successor(lost)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_failover_by_sentinels_is_survived(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with (
        sentinels(tmp_path / "servers", **PASSWORDS) as servers,
        running(servers.url, new_database("postgresql"), tmp_path) as made,
    ):

        def then_ready(strike: Callable[[Sentinels], None]) -> Callable[[], None]:
            def ready_and_strike() -> None:
                servers.wait_for_replica()
                strike(servers)

            return ready_and_strike

        strikes = [then_ready(kill), servers.kill_sentinel, then_ready(freeze), then_ready(kill)]
        strike_and_check(made, strikes, may_lose=True)


def documented_rules(passwords: dict[str, str]) -> dict[str, list[str]]:
    """Return the rules of the pages for each user, as arguments of ACL SETUSER."""
    pages = (ROOT / "docs/redis-acl.conf").read_text() + (ROOT / "docs/access.md").read_text()
    rules = {}
    for user, rule in re.findall(r"^user (\w+) (on .+)$", pages, flags=re.MULTILINE):
        digest = hashlib.sha256(passwords[user].encode()).hexdigest()
        # Redis before 7.2 does not know this one, as docs/access.md says.
        known = rule.replace(" +client|setinfo", "")
        known = known.replace(f"#{user}-password-sha256", f"#{digest}")
        rules[user] = [user, *re.findall(r"\([^)]*\)|\S+", known)]
    return rules


def test_the_documented_rules_are_enough_for_a_failover(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    own_users = ("operator", "decider", "producer", "submitter", "worker")
    users = (*own_users, "sentinel", "replica", "client")
    passwords = {user: f"password-of-{user}" for user in users}
    rules = documented_rules(passwords)
    assert sorted(rules) == sorted(users)
    with sentinels(tmp_path / "servers") as servers:
        own = rules.pop("client")
        for port in servers.ports:
            with Redis(port=port) as sentinel:
                sentinel.execute_command("ACL", "SETUSER", *own)
                for name, value in (("user", "sentinel"), ("pass", passwords["sentinel"])):
                    sentinel.execute_command("SENTINEL", "SET", "enrollment", f"auth-{name}", value)
        for server in servers.servers.values():
            for rule in rules.values():
                server.redis.execute_command("ACL", "SETUSER", *rule)
            server.redis.config_set("masteruser", "replica")
            server.redis.config_set("masterauth", passwords["replica"])
            server.redis.acl_setuser("default", enabled=False)
            server.redis.close()
            server.redis = Redis(
                port=server.port, username="operator", password=passwords["operator"]
            )
            cut_connections(server.redis)
            server.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
        servers.wait_for_replica()

        def url(user: str) -> str:
            made = servers.url.replace("://", f"://{user}:{passwords[user]}@")
            return f"{made}&sentinel_username=client&sentinel_password={passwords['client']}"

        database_url, log = new_database("sqlite"), tmp_path / "worker.log"
        with (
            running_worker(
                url("worker"), database_url, log, "--concurrency=1", client_url=url("producer")
            ) as worker,
            EnrollmentClient(url("producer"), timeout=3) as client,
        ):
            enter_roster(client, ["S1"], ["C"])
            lost = servers.master
            lost.kill()
            successor = servers.wait_for_successor(lost)
            watch = Stopwatch(os.getpid(), worker.process.pid, families=True)

            def enrolls() -> bool:
                with contextlib.suppress(EnrollmentError):
                    return client.enroll({"student_id": "S1", "course_ids": ["C"]}).errors == ()
                return False

            wait_for(enrolls)
            assert watch.seconds() < WITHIN
            denied = [entry for entry in successor.redis.acl_log() if entry["username"] in users]
            assert [e for e in denied if e["reason"] != "auth"] == []


@pytest.mark.long
def test_a_failover_over_tls_is_survived(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with (
        sentinels(tmp_path / "servers", **PASSWORDS, tls=True) as servers,
        running(servers.url, new_database("sqlite"), tmp_path) as made,
    ):
        kill(servers)
        assert made.time_until_all_works() < WITHIN
        assert "insecure" not in made.deployment.log.read_text()
