"""The rules for Redis users that ship with the service, on a real server."""

import os
import re
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from producer.client import EnrollmentClient
from producer.contract.keys import OWNER_SECONDS, Keys, Owned
from producer.contract.plans import Decision, PlanState
from producer.errors import BrokerUnavailable, DecisionRefused, DropsNotKnown
from producer.publishing.connection import BrokerConnection
from producer.schemas import Kind
from support.commands import run_program
from support.paths import ROOT
from support.plain_celery import plain_celery
from support.rosters import enter_roster
from support.valkey import free_port, running_valkey
from support.waiting import wait_for
from support.workers import Deployment, running_worker

RULES = ROOT / "docs" / "redis-acl.conf"
ACCESS = (ROOT / "docs" / "access.md").read_text()
(FOR_CELERY,) = re.findall(r"^\(-@all \+subscribe .*$", ACCESS, flags=re.MULTILINE)

# One process of the test run starts the servers with the rules, for all of these tests.
pytestmark = pytest.mark.xdist_group("rules of redis")


class Guarded(NamedTuple):
    """A Valkey whose only users are those of the rules."""

    port: int
    passwords: dict[str, str]
    prefix: str

    @property
    def keys(self) -> Keys:
        return Keys(self.prefix)

    def name(self, user: str) -> str:
        """Return the name of a user of the rules, as it is on this server."""
        return user if user == "operator" or not self.prefix else f"staging-{user}"

    def url(self, user: str) -> str:
        return f"redis://{self.name(user)}:{self.passwords[user]}@127.0.0.1:{self.port}/0"

    def connect(self, user: str) -> "Redis":
        return Redis.from_url(self.url(user))

    def denied(self) -> list[str]:
        """Return what the server has denied, by its own log, since the last call."""
        with self.connect("operator") as redis:
            log: Any = redis.acl_log()
            redis.acl_log_reset()
        return [f"{entry['username']} {entry['reason']} {entry['object']}" for entry in log]


@contextmanager
def valkey(folder: Path) -> Iterator[tuple[int, Path]]:
    """A server without any rules yet, and the file from which it loads them."""
    folder.mkdir(exist_ok=True)
    rules = folder / "users.acl"
    rules.touch()
    with running_valkey(folder, aclfile=str(rules)) as server:
        yield server.port, rules


@pytest.fixture(scope="module", params=["", "staging:"], ids=["no prefix", "prefix"])
def guarded(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Guarded]:
    """A running server with the rules loaded, and passwords made as the documentation says.

    With a prefix, the rules are changed by the command of the documentation.
    """
    prefix: str = request.param
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copy(RULES, folder)
    (script,) = re.findall(r"```sh\n(for user.*?)```", ACCESS, flags=re.DOTALL)
    if prefix:
        (change,) = re.findall(r"```sh\n +(sed .*?)```", ACCESS, flags=re.DOTALL)
        assert prefix in change
        script = change + script
    done = run_program("sh", "-euc", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    passwords = dict(line.split() for line in done.stdout.splitlines())
    assert set(passwords) == {"operator", "decider", "producer", "submitter", "worker"}
    with valkey(folder / "data") as (port, rules):
        text = (folder / RULES.name).read_text()
        name = "staging-producer" if prefix else "producer"
        (producer,) = (line for line in text.splitlines() if line.startswith(f"user {name} "))
        stranger = producer.replace("producer", "stranger")
        for_celery = FOR_CELERY.replace("&", f"&{prefix}")
        rules.write_text(f"{text}{stranger} {for_celery}\n")
        with Redis(port=port) as redis:
            redis.acl_load()
        yield Guarded(port, {**passwords, "stranger": passwords["producer"]}, prefix)


def test_the_rules_allow_everything_that_worker_and_client_need(
    guarded: Guarded, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    database, producer, keys = new_database("postgresql"), guarded.url("producer"), guarded.keys
    variables = {"ENROLL_KEY_PREFIX": guarded.prefix}
    guarded.denied()
    worker = (guarded.url("worker"), database)
    with EnrollmentClient(producer, timeout=20, key_prefix=guarded.prefix) as client:
        port = str(free_port())
        with running_worker(
            *worker,
            tmp_path / "1",
            "--concurrency=2",
            client_url=producer,
            settings={"ENROLL_METRICS_PORT": port, **variables},
        ) as one:
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
            assert "enrollment_broker_up 1.0" in metrics
            students = [f"S-{n}" for n in range(300)]
            enter_roster(client, students, ["C"])
            use_everything(client, students)
            use_plain_celery(guarded.url("stranger"), guarded.prefix)
            remember_owners(guarded)
            decide_about_plans(guarded)
            assert guarded.denied() == []
            submit_only(guarded, client)
            use_old_rules(guarded, client)
            guarded.denied()
            with guarded.connect("operator") as redis:
                drain_while_full(client, redis, students, keys)
            assert guarded.denied() == []
            with guarded.connect("operator") as redis:
                redis.lpush(keys.queue("batches"), "what is this")
                name, ids = kill_at_work(client, redis, one, students, keys)
        with (
            running_worker(
                *worker, tmp_path / "2", "--concurrency=2", client_url=producer, settings=variables
            ),
            guarded.connect("operator") as redis,
        ):
            wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))
            wait_for(lambda: client.batch(name).state == "done")
            # As if a minute had passed, after which the lost worker is forgotten.
            lost = redis.hkeys(keys.intake("lost"))
            assert lost
            redis.hset(keys.intake("lost"), mapping=dict.fromkeys(lost, 1))
            wait_for(lambda: not redis.exists(keys.intake("lost")))
            assert redis.hlen(keys.attempts) == 0
            assert guarded.denied() == []
        for log in (tmp_path / "1", tmp_path / "2"):
            assert "NOPERM" not in log.read_text()
            assert "No permission" not in log.read_text()
            assert "no permissions" not in log.read_text()


def submit(client: EnrollmentClient, student: str) -> str:
    return client.submit({"student_id": student, "course_ids": ["C"]})


def use_everything(client: EnrollmentClient, students: list[str]) -> None:
    outcome = client.enroll({"student_id": students[0], "course_ids": ["C", "X"], "atomic": False})
    assert outcome.status == "partial"
    records = [{"student_id": f"S-{n % 300}", "course_ids": [f"{n}", "C"]} for n in range(25_000)]
    name = f"named-{uuid.uuid4()}"
    for _ in range(2):
        batch = client.submit_batch(Kind.ENROLLMENTS, records, batch_id=name, max_queued=1)
        wait_for(lambda: client.batch(name).state == "done")
    assert (batch.chunks, batch.published) == (5, 0)
    assert len(list(client.refusals(name))) == 25_000
    assert client.status(outcome.request_id).state == "done"
    assert client.student(students[0]) is not None
    assert client.results(students[0])


def remember_owners(guarded: Guarded) -> None:
    """Store who submitted something, as the HTTP front does with either user."""
    for user in ("producer", "submitter"):
        connection = BrokerConnection(guarded.url(user), None, guarded.prefix)
        for what in Owned:
            assert connection.owner(what, user) is None
            assert connection.owner(what, user, "sis") == "sis"
            assert connection.owner(what, user, "admissions") == "sis"
            with guarded.connect("operator") as redis:
                assert 0 < redis.ttl(guarded.keys.owner(what, user)) <= OWNER_SECONDS
        connection.close()


def submit_only(guarded: Guarded, reader: EnrollmentClient) -> None:
    """Submit as a user that may not read, and read as one that may."""
    url, one = guarded.url("submitter"), {"student_id": "S-1", "course_ids": ["C"]}
    with EnrollmentClient(url, timeout=20, key_prefix=guarded.prefix) as client:
        assert client.enroll(one).status == "enrolled"
        request_id = client.submit(one)
        batch = client.submit_batch(Kind.ENROLLMENTS, [one] * 10)
        wait_for(lambda: reader.status(request_id).state == "done")
        wait_for(lambda: reader.batch(batch.batch_id).state == "done")
        assert guarded.denied() == []
        for read in (client.status, client.batch, client.student, client.results):
            with pytest.raises(BrokerUnavailable, match="its user lacks a right") as refused:
                read("x")
            assert "rules of the user producer" in str(refused.value)


def use_old_rules(guarded: Guarded, client: EnrollmentClient) -> None:
    """Read as a user with rules that know no cached results: every poll is a lookup."""
    request_id = submit(client, "S-2")
    wait_for(lambda: client.status(request_id).state == "done")
    name = guarded.name("producer")
    with guarded.connect("operator") as redis:
        rules = next(line for line in redis.acl_list() if line.startswith(f"user {name} "))
        newer = re.compile(r" \([^()]*(enrollment\.cached|%R~\S*enrollment:request:)[^()]*\)")
        old, removed = newer.subn("", rules)
        assert removed == 2
        redis.execute_command("ACL", "SETUSER", "old", *old.split()[2:])
    url = guarded.url("producer").replace(f"{name}:", "old:")
    with EnrollmentClient(url, timeout=20, key_prefix=guarded.prefix) as older:
        assert older.status(request_id) == client.status(request_id)
        assert older.batches(["x", "y"]) == client.batches(["x", "y"])


def decide_about_plans(guarded: Guarded) -> None:
    """Look up a plan and decide about it, as a user who may do nothing else."""
    url = guarded.url("decider")
    with EnrollmentClient(url, timeout=20, key_prefix=guarded.prefix) as client:
        assert client.plan("x").state is PlanState.UNKNOWN
        with pytest.raises(DropsNotKnown):
            list(client.planned_drops("x"))
        with pytest.raises(DecisionRefused):
            client.decide("x", Decision.APPROVE, "0" * 64)


def use_plain_celery(url: str, prefix: str) -> None:
    """Use a plain Celery client, with the extra rules that the documentation gives for it."""
    request = {"student_id": "S-0", "course_ids": ["C"]}
    for options in ({}, {"priority_steps": list(range(10)), "sep": ":"}):
        with plain_celery(url, prefix, **options) as app:
            for priority in (None, 3, 9):
                sent = app.send_task(
                    "enrollment.enroll",
                    [request],
                    queue="enrollments",
                    declare=[],
                    priority=priority,
                )
                assert sent.get(timeout=20)["status"] == "enrolled"


def drain_while_full(
    client: EnrollmentClient, redis: "Redis", students: list[str], keys: Keys
) -> None:
    """Fill Redis, and check that the messages in it are still processed."""
    ids = [submit(client, name) for name in students]
    redis.config_set("maxmemory", 1)
    with pytest.raises(BrokerUnavailable, match="maxmemory"):
        submit(client, "S-1")
    wait_for(lambda: redis.llen(keys.queue("enrollments")) == 0)
    redis.config_set("maxmemory", 0)
    wait_for(lambda: all(status.state == "done" for status in client.statuses(ids)))


def kill_at_work(
    client: EnrollmentClient, redis: "Redis", worker: Deployment, students: list[str], keys: Keys
) -> tuple[str, list[str]]:
    """Kill a worker that holds messages and executes some of them."""
    records = [{"student_id": name, "course_ids": ["C", "D"]} for name in students] * 100
    batch = client.submit_batch(Kind.ENROLLMENTS, records, max_queued=100)
    ids = [submit(client, name) for name in students[:50]]
    wait_for(lambda: bool(redis.keys(keys.running("*"))))
    os.killpg(worker.process.pid, signal.SIGKILL)
    assert redis.keys(keys.intake("taken", "*"))
    return batch.batch_id, ids


OF_CLIENTS: dict[str, list[Any]] = {
    "read a queue": ["LRANGE", "enrollments", 0, -1],
    "look at a message": ["LINDEX", "batches", 0],
    "pop a message": ["RPOP", "enrollments"],
    "wait for a message": ["BRPOP", "enrollments", 1],
    "take a message": ["BLMOVE", "enrollments", "enrollments", "RIGHT", "LEFT", 1],
    "cut a queue": ["LTRIM", "enrollments", 1, 0],
    "delete a queue": ["DEL", "enrollments"],
    "unlink a queue": ["UNLINK", "enrollments"],
    "rename a queue": ["RENAME", "enrollments", "x"],
    "let a queue expire": ["EXPIRE", "enrollments", 1],
    "overwrite a queue": ["SET", "enrollments", "x"],
    "publish to another list": ["LPUSH", "elsewhere", "x"],
    "publish to a list named like a queue": ["LPUSH", "enrollments2", "x"],
    "publish with no priority of Celery": ["LPUSH", "enrollments:10", "x"],
    "read messages with a priority": ["LRANGE", "enrollments\x06\x163", 0, -1],
    "put before the others": ["RPUSH", "enrollments", "x"],
    "read what a worker holds": ["LRANGE", "enrollment.intake.taken.x", 0, -1],
    "look for what workers hold": ["SMEMBERS", "enrollment.intake.takers"],
    "register as a worker": ["SADD", "enrollment.intake.takers", "x/0"],
    "look at the registered database": ["HGET", "enrollment.intake.database", "identity"],
    "register another database": ["HSET", "enrollment.intake.database", "identity", "{}"],
    "forget the registered database": ["DEL", "enrollment.intake.database"],
    "reset the attempts": ["HDEL", "enrollment.intake.attempts", "x"],
    "reroute an exchange": ["SADD", "_kombu.binding.enrollments", "x"],
    "forge a cached result": ["SET", "enrollment.cached.request.x", "{}"],
    "begin a generation of cached results": ["SET", "enrollment.cached.generation", "x"],
    "delete a cached result": ["DEL", "enrollment.cached.request.x"],
    "forge an answer": ["SET", "celery-task-meta-x", "{}"],
    "delete an answer": ["DEL", "celery-task-meta-x"],
    "forget who submitted a request": ["DEL", "enrollment:owner:request:x"],
    "read somebody's mark": ["GET", "enrollment:request:x"],
    "read a mark by writing it": ["SET", "enrollment:request:x", "{}", "GET"],
    "read another key": ["GET", "anything"],
    "write another key": ["SET", "anything", "x"],
    "list keys": ["KEYS", "*"],
    "scan keys": ["SCAN", 0],
    "take any key": ["RANDOMKEY"],
    "count keys": ["DBSIZE"],
    "run a script": ["EVAL", "return 1", 0],
    "run a stored script": ["EVALSHA", "0" * 40, 0],
    "load a function": ["FUNCTION", "LIST"],
    "configure": ["CONFIG", "GET", "*"],
    "list users": ["ACL", "LIST"],
    "make a user": ["ACL", "SETUSER", "x"],
    "flush": ["FLUSHALL"],
    "flush a database": ["FLUSHDB"],
    "watch others": ["MONITOR"],
    "listen to answers": ["PSUBSCRIBE", "celery-task-meta-*"],
    "publish to a channel": ["PUBLISH", "celery-task-meta-x", "x"],
    "shut down": ["SHUTDOWN", "NOSAVE"],
    "list connections": ["CLIENT", "LIST"],
    "cut connections": ["CLIENT", "KILL", "TYPE", "normal"],
    "halt everybody": ["CLIENT", "PAUSE", 1],
    "save": ["SAVE"],
    "make a replica": ["REPLICAOF", "127.0.0.1", 1],
    "copy everything": ["SYNC"],
    "see the server": ["INFO"],
    "move a key": ["MIGRATE", "127.0.0.1", 1, "enrollments", 0, 1],
    "restore a key": ["RESTORE", "enrollments", 0, "x"],
    "dump a queue": ["DUMP", "enrollments"],
    "sort a queue": ["SORT", "enrollments", "STORE", "x"],
}
OF_PRODUCER = {
    **OF_CLIENTS,
    "decide": ["LPUSH", "decisions", "x"],
    "decide with a priority": ["LPUSH", "decisions:3", "x"],
}
OF_WORKER: dict[str, list[Any]] = {
    "read another key": ["GET", "anything"],
    "write another key": ["SET", "anything", "x"],
    "put into a queue": ["LPUSH", "enrollments", "x"],
    "delete a queue": ["DEL", "enrollments"],
    **{
        what: OF_PRODUCER[what]
        for what in ("list keys", "scan keys", "configure", "list users", "make a user", "flush")
    },
    "learn who submitted a request": ["GET", "enrollment:owner:request:x"],
    **{what: OF_PRODUCER[what] for what in ("shut down", "cut connections", "watch others")},
}
OF_OUR_KEYS = ("enrollment", "batches", "lookups", "decisions", "celery-task-meta", "_kombu")
OF_SUBMITTER = {
    **OF_PRODUCER,
    "look up": ["LPUSH", "lookups", "x"],
    "look up with a priority": ["LPUSH", "lookups:3", "x"],
    "read cached results": ["MGET", "enrollment.cached.generation", "enrollment.cached.request.x"],
    "read why work waits": ["MGET", "enrollment.outage"],
}
OF_DECIDER = {
    **OF_CLIENTS,
    "read the decisions of others": ["LRANGE", "decisions", 0, -1],
    "publish a request": ["LPUSH", "enrollments", "x"],
    "publish a chunk with a priority": ["LPUSH", "batches:3", "x"],
    "leave a mark": ["SET", "enrollment:batch:x", "x"],
}
OF_USERS = {
    "producer": OF_PRODUCER,
    "submitter": OF_SUBMITTER,
    "decider": OF_DECIDER,
    "worker": OF_WORKER,
}
FORBIDDEN = [(user, what) for user, commands in OF_USERS.items() for what in commands]


@pytest.mark.parametrize(("user", "what"), FORBIDDEN)
def test_what_a_user_must_not_do_is_denied(guarded: Guarded, user: str, what: str) -> None:
    guarded.denied()
    command = [
        guarded.prefix + part if str(part).startswith(OF_OUR_KEYS) else part
        for part in OF_USERS[user][what]
    ]
    with guarded.connect(user) as redis, pytest.raises(NoPermissionError):
        redis.execute_command(*command)
    (denied,) = guarded.denied()
    assert denied.startswith(f"{guarded.name(user)} ")


def test_a_workers_script_reaches_only_the_workers_own_keys(guarded: Guarded) -> None:
    guarded.denied()
    script = "return redis.call('GET', 'anything')"
    with guarded.connect("worker") as redis, pytest.raises(ResponseError, match="ACL failure"):
        redis.eval(script, 0)
    assert guarded.denied() == [f"{guarded.name('worker')} key anything"]


def test_a_client_without_a_password_is_refused(guarded: Guarded) -> None:
    once = Retry(NoBackoff(), 0)
    with Redis(port=guarded.port, retry=once) as redis, pytest.raises(AuthenticationError):
        redis.ping()


def test_the_rules_are_not_loaded_before_their_passwords_are_set(tmp_path: Path) -> None:
    """No server must run with the passwords from the documentation."""
    with valkey(tmp_path) as (port, rules), Redis(port=port) as redis:
        rules.write_text(RULES.read_text())
        with pytest.raises(ResponseError, match="password"):
            redis.acl_load()
