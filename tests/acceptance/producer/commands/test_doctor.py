"""`enroll doctor` on a healthy set-up, and on broken ones: what is wrong, and what to do."""

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.contract.keys import Keys
from producer.contract.routing import Queue
from support.commands import invoke_enroll
from support.databases import sqlite_taken_away
from support.sentinels import sentinels
from support.valkey import free_port, running_valkey
from support.waiting import wait_for
from support.workers import running_worker

Findings = dict[tuple[str, str], str]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A Valkey that persists its data, and a connection to it."""
    with running_valkey(tmp_path / "valkey") as server:
        url = f"{server.connection_url}/0"
        with Redis.from_url(url) as redis:
            redis.config_set("appendonly", "yes")
            redis.config_set("maxmemory-policy", "noeviction")
            redis.config_set("proto-max-bulk-len", 32 * 2**20)
            yield url, redis


@pytest.fixture
def working(
    broker: tuple[str, Any], new_database: Callable[[str], str], tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The URLs of the broker and the database of a running worker."""
    url, database_url = broker[0], new_database("sqlite")
    with running_worker(url, database_url, tmp_path / "worker.log", "--concurrency=2"):
        yield url, database_url


def doctor(url: str, *options: str, **environment: str) -> tuple[int, Findings]:
    """Return the exit code, and the findings with their remedies, by check and state."""
    variables = {"ENROLL_DATABASE_URL": None, **environment}
    done = invoke_enroll("doctor", "--broker", url, "--json", *options, **variables)
    assert isinstance(done.exception, SystemExit | None), repr(done.exception)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(bool(one["remedy"]) == (one["state"] != "ok") for one in lines)
    found: Findings = {}
    for one in lines:
        key, finding = (one["check"], one["state"]), f"{one['found']} -> {one['remedy']}"
        found[key] = "\n".join(filter(None, (found.get(key), finding)))
    return done.exit_code, found


def url_of_user_without(command: str, url: str, redis: Any) -> str:
    """Create a Redis user who may run every command except one; return the broker URL with it."""
    redis.acl_setuser(
        "limited",
        enabled=True,
        passwords=["+word"],
        keys=["*"],
        channels=["*"],
        commands=["+@all", f"-{command}"],
    )
    return url.replace("redis://", "redis://limited:word@")


def test_a_healthy_set_up_has_nothing_wrong(working: tuple[str, str]) -> None:
    url, database_url = working
    code, found = doctor(url, "--strict", ENROLL_DATABASE_URL=database_url)
    assert (code, {state for _, state in found}) == (0, {"ok"})
    assert {check for check, _ in found} == {
        *("broker", "persistence", "eviction", "memory", "message size", "clock", "queue"),
        *("worker", "versions", "database", "encoding", "keys", "identity", "writes", "lookups"),
        *("plans", "polls", "workers", "dead letters"),
    }


def test_rules_that_know_no_cached_results_are_found(
    working: tuple[str, str], broker: tuple[str, Any]
) -> None:
    """The rules of an earlier version, for the workers and for the user of the command."""
    url, redis = broker
    redis.execute_command("ACL", "SETUSER", "other", "on", ">word", "~*", "&*", "+@all")
    earlier = [f"~{name}*" for name in ("enrollment.intake", "enrollment:", "enrollment.outage")]
    earlier += [f"~{name}*" for name in ("enrollments", *Queue, "celery-task-meta-", "_kombu")]
    redis.execute_command("ACL", "SETUSER", "default", "resetkeys", *earlier)
    code, found = doctor(url)
    assert code == 0
    assert "Give it the rules of the user producer" in found["polls", "warning"]
    assert "Connect as the user operator" in found["queue", "warning"]
    other = url.replace("://", "://other:word@")
    with Redis.from_url(other) as connected:
        connected.delete(Keys().generation)
    code, found = doctor(other)
    assert code == 0
    assert "give their user the rules of docs/redis-acl.conf" in found["polls", "warning"]


def test_an_unavailable_broker_is_found() -> None:
    code, found = doctor(f"redis://:a-password@localhost:{free_port()}/0")
    assert code == 1
    (finding,) = found.values()
    assert "does not answer" in finding
    assert "a-password" not in finding


@pytest.mark.parametrize(
    ("setting", "value", "finding", "words"),
    [
        ("appendonly", "no", ("persistence", "wrong"), "loses the queued messages"),
        ("maxmemory-policy", "allkeys-lru", ("eviction", "wrong"), "deletes the queues"),
        ("maxmemory-policy", "volatile-lru", ("eviction", "warning"), "deletes result keys"),
        ("proto-max-bulk-len", 512 * 2**20, ("message size", "warning"), "up to 512 MiB"),
        ("proto-max-bulk-len", 2**20, ("message size", "wrong"), "less than a chunk may need"),
        ("maxmemory", "nearly used up", ("memory", "warning"), "MiB used of"),
        ("maxmemory", "used up", ("memory", "wrong"), "Redis is full -> Raise maxmemory"),
    ],
)
def test_a_broker_that_may_lose_data_is_found(
    working: tuple[str, str],
    broker: tuple[str, Any],
    setting: str,
    value: str | int,
    finding: tuple[str, str],
    words: str,
) -> None:
    url, redis = broker
    for number in range(5):  # So much that the commands of the test do not matter.
        redis.setrange(f"filler {number}", 8_000_000, "x")
    redis.config_set("maxmemory", "512mb")
    used = int(redis.info("memory")["used_memory"])
    sizes = {"nearly used up": int(used / 0.9), "used up": used // 2}
    redis.config_set(setting, sizes.get(str(value), value))
    found = doctor(url)[1]
    assert found[finding].count(words) == 1
    assert ("broker", "wrong") not in found
    assert doctor(url)[0] == (1 if finding[1] == "wrong" else 0)
    assert doctor(url, "--strict")[0] == 1


def test_a_missing_worker_and_waiting_messages_are_found(broker: tuple[str, Any]) -> None:
    url, redis = broker
    since = int(time.time()) - 3600
    redis.lpush("batches", json.dumps({"properties": {"timestamp": since}}), "{}")
    redis.lpush("lookups", json.dumps({"properties": {"timestamp": int(time.time()) - 90}}))
    redis.lpush("enrollments\x06\x169", json.dumps({"properties": {"timestamp": since}}))
    redis.lpush("celery", "{}", "{}")
    redis.lpush("celery\x06\x163", "{}")
    code, found = doctor(url, "--timeout", "1")
    assert code == 1
    assert "Start a worker" in found["worker", "wrong"]
    late, waiting, asked, unnamed, urgent = found["queue", "warning"].splitlines()
    assert "waiting in enrollments: 1, the oldest for 60 min" in late
    assert "waiting in batches: 2, the oldest for 60 min" in waiting
    assert "waiting in lookups: 1, the oldest for 2 min" in asked
    assert "messages without a queue name: 2" in unnamed
    assert "messages without a queue name: 1" in urgent
    # The remedy works as it is printed.
    (command,) = re.findall(r"DEL (\S+)", urgent)
    name = subprocess.run(
        ["/bin/bash", "-c", f"printf %s {command}"], check=True, capture_output=True
    ).stdout
    assert redis.delete(name) == 1
    assert "name: 1" not in doctor(url, "--timeout", "1")[1]["queue", "warning"]


def test_an_unavailable_or_unmigrated_database_is_found(working: tuple[str, str]) -> None:
    url, database_url = working
    path = Path(database_url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '0003'")
    database.close()
    code, found = doctor(url, ENROLL_DATABASE_URL=database_url)
    assert code == 1
    assert "outdated. It has migration 0003, not 0015" in found["database", "wrong"]
    assert "python -m worker.migrate" in found["database", "wrong"]
    with sqlite_taken_away(database_url):
        assert "as the worker sees it: unavailable" in doctor(url)[1]["database", "wrong"]
        seen = doctor(url, ENROLL_DATABASE_URL=database_url)[1]["database", "wrong"]
        assert "there is no file" in seen


def test_workers_of_a_version_without_moments_are_named(
    working: tuple[str, str], broker: tuple[str, Any]
) -> None:
    url, redis = broker
    keys = Keys()
    redis.sadd(keys.takers, "0123456789abcdef/0")
    redis.set(keys.alive("0123456789abcdef"), "1")  # As they write it.
    code, found = doctor(url)
    assert code == 0
    assert "1 of 2 workers run a version without moments (01234567)" in found["workers", "warning"]
    redis.set(keys.alive("0123456789abcdef"), "0.1.0 host")  # As one that knows moments writes it.
    code, found = doctor(url)
    assert code == 0
    assert "1 of 2 workers run a version without drops (01234567)" in found["workers", "warning"]


def test_a_user_who_may_not_read_the_clock_learns_that_requests_get_no_moments(
    working: tuple[str, str], broker: tuple[str, Any]
) -> None:
    url, redis = broker
    found = doctor(url_of_user_without("time", url, redis))[1]
    assert "may not read the clock (TIME)" in found["moments", "warning"]


def test_a_wrong_clock_and_a_worker_with_one_process_are_found(
    broker: tuple[str, Any], new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, _ = broker
    with running_worker(
        url,
        new_database("sqlite"),
        tmp_path / "worker.log",
        "--concurrency=1",
        app="support.apps.slow_clock",
    ):
        code, found = doctor(url)
    assert code == 1
    assert "the worker's clock and this machine's differ by 60 s" in found["clock", "wrong"]
    assert "decisions, enrollments, lookups and batches" in found["processes", "warning"]
    assert "--concurrency 2 or more" in found["processes", "warning"]
    assert "--concurrency 2 or more" in (tmp_path / "worker.log").read_text()


def test_a_user_who_may_not_inspect_the_server_learns_which_user_may(
    working: tuple[str, str], broker: tuple[str, Any]
) -> None:
    url, redis = broker
    code, found = doctor(url_of_user_without("info", url, redis))
    assert code == 0
    assert "as the Redis user operator" in found["persistence", "warning"]
    assert ("worker", "ok") in found


def test_a_variable_that_is_not_a_database_url_is_found(working: tuple[str, str]) -> None:
    code, found = doctor(working[0], ENROLL_DATABASE_URL="mysql://me:a-password@h/d")
    assert code == 1
    assert "ENROLL_DATABASE_URL" in found["database", "wrong"]
    assert "a-password" not in found["database", "wrong"]


def test_dead_letters_are_a_warning(working: tuple[str, str], broker: tuple[str, Any]) -> None:
    url, database_url = working
    broker[1].lpush("enrollments", "no message")
    ok = ("dead letters", "ok")
    wait_for(lambda: ok not in doctor(url, ENROLL_DATABASE_URL=database_url)[1])
    found = doctor(url, ENROLL_DATABASE_URL=database_url)[1]
    assert "1 stored" in found["dead letters", "warning"]
    assert "enroll dead-letters list" in found["dead letters", "warning"]


def test_a_replica_is_found_and_its_master_is_named(broker: tuple[str, Any]) -> None:
    url, redis = broker
    redis.execute_command("REPLICAOF", "127.0.0.1", free_port())
    master = redis.info("replication")["master_port"]
    code, found = doctor(url, "--timeout", "1")
    assert code == 1
    assert "a replica -> Point ENROLL_BROKER_URL" in found["broker", "wrong"]
    assert f"at its master, 127.0.0.1:{master}" in found["broker", "wrong"]
    assert "pgrade" not in str(found)


def test_a_worker_that_fails_is_not_called_outdated(broker: tuple[str, Any]) -> None:
    url, redis = broker

    def answer() -> None:
        _, message = redis.brpop("lookups", 30)
        task_id = json.loads(message)["headers"]["id"]
        failure = {"status": "FAILURE", "result": {"exc_message": ["something is wrong"]}}
        redis.set(f"celery-task-meta-{task_id}", json.dumps(failure))

    with ThreadPoolExecutor() as pool:
        answered = pool.submit(answer)
        found = doctor(url)[1]["worker", "wrong"]
        answered.result()
    remedy = "Read the worker's log: the lines that name enrollment.health give the reason."
    assert found.endswith(f"something is wrong -> {remedy}")


def test_problems_with_the_sentinels_are_found(tmp_path: Path) -> None:
    with sentinels(tmp_path) as servers:
        master = f"127.0.0.1:{servers.master.port}"
        found = doctor(servers.url, "--timeout", "1")[1]
        assert f"3 of 3 sentinels name {master} as the master enrollment" in found["sentinel", "ok"]
        assert f"the master {master} answers" in found["broker", "ok"]

        other = doctor(servers.url.replace("=enrollment", "=other"), "--timeout", "1")
        assert other[0] == 1
        assert "it knows enrollment) -> Correct master_name" in other[1]["sentinel", "wrong"]
        (name,) = set(re.findall(r"it knows (\w+)", other[1]["sentinel", "wrong"]))
        assert ("sentinel", "ok") in doctor(servers.url.replace("=enrollment", f"={name}"))[1]

        # The URL of a sentinel is given as that of a server; the remedy works as it is printed.
        address = f"127.0.0.1:{servers.ports[0]}"
        found = doctor(f"redis://{address}/0", "--timeout", "1")[1]
        (form,) = re.findall(r"sentinel://\S+=NAME", found["broker", "wrong"].splitlines()[0])
        url = form.replace("HOST:PORT", address).replace("NAME", "enrollment")
        assert ("sentinel", "ok") in doctor(url, "--timeout", "1")[1]

        servers.kill_sentinel()
        code, found = doctor(servers.url, "--timeout", "1")
        assert f"2 of 3 sentinels name {master}" in found["sentinel", "warning"]
        assert f"{address}: Error 111" in found["sentinel", "warning"]
        servers.kill_sentinel()
        servers.kill_sentinel()
        code, found = doctor(servers.url, "--timeout", "1")
        assert code == 1
        assert "no sentinel names the master" in found["sentinel", "wrong"]
        assert "-> Start the sentinels" in found["sentinel", "wrong"]
        assert ("broker", "ok") not in found
