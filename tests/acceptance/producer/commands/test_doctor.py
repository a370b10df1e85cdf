"""`enroll doctor` on a healthy set-up, and on broken ones: what is wrong, and what to do."""

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from support.commands import invoke_enroll
from support.databases import sqlite_taken_away
from support.valkey import free_port, running_valkey
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
            yield url, redis


@pytest.fixture
def working(
    broker: tuple[str, Any], new_database: Callable[[str], str], tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The URLs of the broker and the database of a running worker."""
    url, database_url = broker[0], new_database("sqlite")
    with running_worker(url, database_url, tmp_path / "worker.log", "--concurrency=1"):
        yield url, database_url


def doctor(url: str, *options: str, **environment: str) -> tuple[int, Findings]:
    """Return the exit code, and the findings with their remedies, by check and state."""
    variables = {"ENROLL_DATABASE_URL": None, **environment}
    done = invoke_enroll("doctor", "--broker", url, "--json", *options, **variables)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(bool(one["remedy"]) == (one["state"] != "ok") for one in lines)
    found: Findings = {}
    for one in lines:
        key, said = (one["check"], one["state"]), f"{one['found']} -> {one['remedy']}"
        found[key] = "\n".join(filter(None, (found.get(key), said)))
    return done.exit_code, found


def test_a_healthy_set_up_has_nothing_wrong(working: tuple[str, str]) -> None:
    url, database_url = working
    code, found = doctor(url, "--strict", ENROLL_DATABASE_URL=database_url)
    assert (code, {state for _, state in found}) == (0, {"ok"})
    assert {check for check, _ in found} == {
        *("broker", "persistence", "eviction", "memory", "clock", "queue"),
        *("worker", "versions", "database", "dead letters"),
    }


def test_an_unavailable_broker_is_found() -> None:
    code, found = doctor(f"redis://:a-password@localhost:{free_port()}/0")
    assert code == 1
    (said,) = found.values()
    assert "does not answer" in said
    assert "a-password" not in said


@pytest.mark.parametrize(
    ("setting", "value", "finding", "words"),
    [
        ("appendonly", "no", ("persistence", "wrong"), "loses the queued messages"),
        ("maxmemory-policy", "allkeys-lru", ("eviction", "wrong"), "deletes the queues"),
        ("maxmemory-policy", "volatile-lru", ("eviction", "warning"), "deletes results"),
        ("maxmemory", "nearly used up", ("memory", "warning"), "MiB used of"),
        ("maxmemory", "used up", ("memory", "wrong"), "Redis is full -> Raise maxmemory"),
    ],
)
def test_a_broker_that_may_lose_data_is_found(
    working: tuple[str, str],
    broker: tuple[str, Any],
    setting: str,
    value: str,
    finding: tuple[str, str],
    words: str,
) -> None:
    url, redis = broker
    redis.set("filler", "x" * 8_000_000)
    redis.config_set("maxmemory", "512mb")
    used = int(redis.info("memory")["used_memory"])
    sizes = {"nearly used up": int(used / 0.85), "used up": used // 2}
    redis.config_set(setting, sizes.get(value, value))
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
    redis.lpush("enrollments\x06\x169", "{}")
    redis.lpush("celery", "{}", "{}")
    code, found = doctor(url, "--timeout", "1")
    assert code == 1
    assert "Start a worker" in found["worker", "wrong"]
    waiting, asked, urgent, unnamed = found["queue", "warning"].splitlines()
    assert "waiting in batches: 2, the oldest for 60 min" in waiting
    assert "waiting in lookups: 1, the oldest for 2 min" in asked
    assert "messages for enrollments with a priority: 1" in urgent
    assert "messages without a queue name: 2" in unnamed
    # The remedy works as it is printed.
    (command,) = re.findall(r"DEL (\S+)", urgent)
    name = subprocess.run(
        ["/bin/bash", "-c", f"printf %s {command}"], check=True, capture_output=True
    ).stdout
    assert redis.delete(name) == 1
    assert "priority" not in doctor(url, "--timeout", "1")[1]["queue", "warning"]


def test_an_unavailable_or_unmigrated_database_is_found(working: tuple[str, str]) -> None:
    url, database_url = working
    path = Path(database_url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '0003'")
    database.close()
    code, found = doctor(url, ENROLL_DATABASE_URL=database_url)
    assert code == 1
    assert "outdated. It has migration 0003, not 0004" in found["database", "wrong"]
    assert "python -m worker.migrate" in found["database", "wrong"]
    with sqlite_taken_away(database_url):
        assert "as the worker sees it: unavailable" in doctor(url)[1]["database", "wrong"]
        seen = doctor(url, ENROLL_DATABASE_URL=database_url)[1]["database", "wrong"]
        assert "there is no file" in seen


def test_a_wrong_clock_is_found(
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


def test_a_user_who_may_not_inspect_the_server_learns_which_user_may(
    working: tuple[str, str], broker: tuple[str, Any]
) -> None:
    url, redis = broker
    redis.acl_setuser(
        "producer", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-info"]
    )
    code, found = doctor(url.replace("redis://", "redis://producer:p@"))
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
    end = time.monotonic() + 30
    while (found := doctor(url, ENROLL_DATABASE_URL=database_url)[1]).keys() & {
        ("dead letters", "ok")
    }:
        assert time.monotonic() < end
    assert "1 stored" in found["dead letters", "warning"]
    assert "enroll dead-letters list" in found["dead letters", "warning"]
