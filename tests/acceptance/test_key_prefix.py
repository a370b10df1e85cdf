"""Two deployments share one database of one Redis, and neither sees the other."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.routing import Queue
from producer.schemas import Kind
from support.commands import invoke_enroll
from support.databases import dead_letters_at
from support.handover import stopped_with_messages
from support.http import serving
from support.plain_celery import plain_celery
from support.rosters import enter_roster, finished
from support.valkey import free_port, running_valkey
from support.waiting import wait_for
from support.workers import Deployment, running_worker

EVENTS = {"ENROLL_TASK_EVENTS": "true"}


@dataclass
class Server:
    """A Redis, all of its keys that were ever seen, and the channels that were published to."""

    redis: Any
    port: int
    keys: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Note the keys that there are now, and the channels since the last look."""
        self.keys |= {key.decode() for key in self.redis.scan_iter("*", 1000)}
        while (message := self._listener.get_message()) is not None:
            if message["type"] == "pmessage":
                self.channels.add(message["channel"].decode())

    def __post_init__(self) -> None:
        self._listener = self.redis.pubsub()
        self._listener.psubscribe("*")

    def url(self, name: str, prefix: str) -> str:
        """Return the URL of a new user, who may use everything, but only under the prefix."""
        self.redis.acl_setuser(
            name, enabled=True, passwords=["+p"], commands=["+@all"],
            keys=[f"{prefix}*"], channels=[f"{prefix}*"],
        )  # fmt: skip
        return f"redis://{name}:p@127.0.0.1:{self.port}/0"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_valkey(tmp_path / "valkey") as made, Redis(port=made.port) as redis:
        yield Server(redis, made.port)


def pairs(count: int) -> Iterator[tuple[str, str]]:
    """Make pairs of prefixes; in every other pair, one is the beginning of the other."""
    chance = random.Random(19)
    for number in range(count):
        one, two = (
            "".join(chance.choices("abcXYZ019:._/-", k=chance.randint(1, 12)))
            + chance.choice(":._-")
            for _ in range(2)
        )
        yield one, one + two if number % 2 else f"b{two}"


def use(deployment: Deployment, client: EnrollmentClient, me: str, server: Server) -> None:
    """Do everything that a deployment can do, under names that the other one uses too."""
    enter_roster(client, [{"sis_id": "S1", "name": me}], ["C1", f"C-{me}"])
    result = client.enroll({"student_id": "S1", "course_ids": ["C1"], "request_id": "r"})
    assert [course.sis_id for course in result.enrolled_courses] == ["C1"]
    records = [{"student_id": "S1", "course_ids": [f"C-{me}"]}] * 20 + [{"student_id": me}]
    client.submit_batch(Kind.ENROLLMENTS, records, batch_id="night", max_queued=1)
    server.look()
    finished(client, "night")
    student = client.student("S1")
    assert student is not None
    assert (student.name, len(student.courses)) == (me, 2)
    assert [line.line for line in client.refusals("night")] == [21]
    deployment.enroll("status", "r")
    use_as_others_do(deployment, client, me, server)


def use_as_others_do(
    deployment: Deployment, client: EnrollmentClient, me: str, server: Server
) -> None:
    """Publish with plain Celery, with and without a priority; over HTTP; and what is malformed."""
    url, prefix = deployment.broker_url, deployment.key_prefix
    for number, options in enumerate(({}, {"priority_steps": list(range(10)), "sep": ":"})):
        with plain_celery(url, prefix, **options) as app:
            request = {"student_id": "S1", "course_ids": ["C1"], "request_id": f"celery {number}"}
            sent = app.send_task(
                "enrollment.enroll", [request], queue="enrollments", priority=6, declare=[]
            )
            server.look()
            assert sent.get(timeout=20)["status"] == "enrolled"
    with serving(deployment.environment, deployment.log.parent / "http.log") as (address, _):
        assert httpx.get(f"{address}/students/S1", timeout=20).json()["name"] == me
    with Redis.from_url(url) as redis:
        redis.lpush(Keys(prefix).queue(Queue.BATCHES), f"malformed by {me}")
    wait_for(lambda: len(dead_letters_at(deployment.database_url)) == 1)
    assert dead_letters_at(deployment.database_url)[0].content.decode() == f"malformed by {me}"
    server.look()


@pytest.mark.parametrize(("one", "two"), list(pairs(2)), ids=["apart", "nested"])
def test_two_deployments_on_one_redis_do_not_see_each_other(
    server: Server, new_database: Callable[[str], str], tmp_path: Path, one: str, two: str
) -> None:
    with ExitStack() as stack:
        clients, workers = {}, {}
        for me, prefix in (("one", one), ("two", two)):
            folder = tmp_path / me
            folder.mkdir()
            url, variables = server.url(me, prefix), {"ENROLL_KEY_PREFIX": prefix, **EVENTS}
            workers[me] = partial(
                running_worker,
                *(url, new_database("sqlite"), folder / "worker.log", "--concurrency=1"),
                settings=variables,
            )
            made = stack.enter_context(workers[me]())
            clients[me] = stack.enter_context(EnrollmentClient(url, timeout=20, key_prefix=prefix))
            use(made, clients[me], me, server)
            kill_while_it_holds_a_message(server, made, clients[me])
        # Both workers are lost now. That of the second deployment comes back first.
        wait_for(lambda: not list(server.redis.scan_iter("*.intake.alive.*", 1000)))
        stack.enter_context(workers["two"]())
        wait_for(lambda: clients["two"].status("held").state == "done")
        assert len(list(server.redis.scan_iter(f"{one}enrollment.intake.taken.*"))) >= 1
        stack.enter_context(workers["one"]())
        wait_for(lambda: clients["one"].status("held").state == "done")
        server.look()
    assert server.redis.acl_log() == []
    of_two = {key for key in server.keys if key.startswith(two)}
    of_one = {key for key in server.keys - of_two if key.startswith(one)}
    assert server.keys == of_one | of_two
    assert {key.removeprefix(one) for key in of_one} >= COMMON
    assert {key.removeprefix(two) for key in of_two} >= COMMON
    assert {name for name in server.channels if not name.startswith((one, two))} == set()
    for prefix in (one, two):
        assert any(name.startswith(f"{prefix}/0.celeryev/") for name in server.channels)


COMMON = {"enrollment.intake.takers", "enrollment:batch:night", "_kombu.binding.lookups"}


def kill_while_it_holds_a_message(
    server: Server, deployment: Deployment, client: EnrollmentClient
) -> None:
    client.status("a worker that has answered waits for the next message")
    queue = Keys(deployment.key_prefix).queue(Queue.ENROLLMENTS)
    request = {"student_id": "S1", "course_ids": ["C1"], "request_id": "held"}
    with stopped_with_messages(
        deployment.process.pid,
        lambda: server.redis.llen(queue),
        lambda: client.submit(request),
    ):
        server.look()
        os.killpg(deployment.process.pid, signal.SIGKILL)
    deployment.process.wait()


def test_doctor_looks_only_at_its_own_deployment(server: Server) -> None:
    keys = Keys("own:")
    server.redis.lpush(keys.queue(Queue.BATCHES), "{}")
    server.redis.lpush(keys.priorities(Queue.BATCHES)[0], "{}", "{}")
    server.redis.lpush(keys.queue("celery"), "{}")
    server.redis.lpush("other:lookups", "{}")
    url = f"redis://127.0.0.1:{server.port}/0"
    done = invoke_enroll(
        "doctor", "--broker", url, "--key-prefix", "own:", "--timeout", "0.5", "--json",
        ENROLL_DATABASE_URL=None,
    )  # fmt: skip
    found = [json.loads(line)["found"] for line in done.stdout.splitlines()]
    queues = [line for line in found if line.startswith("messages ")]
    assert queues == [
        "messages waiting in own:enrollments: 0",
        "messages waiting in own:batches: 3",
        "messages waiting in own:lookups: 0",
        "messages waiting in own:decisions: 0",
        "messages without a queue name: 1; no worker reads them",
    ]


def test_metrics_and_back_pressure_count_messages_of_every_priority(
    server: Server, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    keys, port = Keys("own:"), free_port()
    url = server.url("own", keys.prefix)
    variables = {"ENROLL_KEY_PREFIX": keys.prefix, "ENROLL_METRICS_PORT": str(port)}
    worker = running_worker(
        url, new_database("sqlite"), tmp_path / "log", "--concurrency=1", settings=variables
    )
    with worker as made, EnrollmentClient(url, key_prefix=keys.prefix) as client:
        os.kill(made.process.pid, signal.SIGSTOP)
        for name in keys.priorities(Queue.BATCHES):
            server.redis.lpush(name, "{}", "{}")
        count = 2 * len(keys.priorities(Queue.BATCHES))
        assert client._connection.count_queued_chunks() == count  # noqa: SLF001 - as a submitter
        os.kill(made.process.pid, signal.SIGCONT)
        wait_for(lambda: client._connection.count_queued_chunks() == 0)  # noqa: SLF001
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    assert 'enrollment_queue_messages{queue="batches"}' in metrics
    assert server.redis.acl_log() == []
    wait_for(lambda: len(dead_letters_at(made.database_url)) == 1)


@pytest.mark.parametrize("prefix", ["no separator", "a*:", "x" * 70 + ":"])
def test_an_invalid_prefix_is_refused_by_every_command(prefix: str) -> None:
    for command in (["status", "r"], ["doctor"], ["serve"], ["up"], ["demo"]):
        done = invoke_enroll(*command, ENROLL_KEY_PREFIX=prefix)
        assert done.exit_code == 2
        assert "A key prefix has at most 64 characters" in " ".join(done.stderr.split())
