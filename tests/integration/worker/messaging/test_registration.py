"""The register of the database in Redis: the first worker fills it, and a loss does no harm."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from producer.contract.identity import REGISTER_FIELD, DatabaseIdentity
from producer.contract.keys import Keys
from support.valkey import free_port
from worker.messaging.registration import DatabaseRegister

KEYS = Keys("school-a:")


def identity(name: str) -> DatabaseIdentity:
    return DatabaseIdentity(id=name * 32, cluster="7", number=5, place=f"{name} at db")


@pytest.fixture(autouse=True)
def redis(broker_url: str) -> Iterator[Any]:
    with Redis.from_url(broker_url) as connected:
        connected.delete(KEYS.database)
        yield connected


def test_of_many_that_start_together_exactly_one_database_is_registered(broker_url: str) -> None:
    names = "abcdefgh" * 4
    with ThreadPoolExecutor(len(names)) as threads:
        registers = [DatabaseRegister(broker_url, KEYS) for _ in names]
        reasons = list(threads.map(lambda r, n: r.refusal(identity(n)), registers, names))
    winner = DatabaseRegister(broker_url, KEYS).find()
    assert winner is not None
    admitted = {n for n, reason in zip(names, reasons, strict=True) if reason is None}
    assert admitted == {winner.id[0]}
    assert all(winner.place in str(reason) for reason in reasons if reason)


def test_a_lost_register_is_filled_again(broker_url: str, redis: Any) -> None:
    register = DatabaseRegister(broker_url, KEYS)
    assert register.refusal(identity("a")) is None
    redis.delete(KEYS.database)
    assert register.refusal(identity("a")) is None
    assert register.find() == identity("a")


def test_a_full_redis_accepts_and_shows_it(broker_url: str, redis: Any) -> None:
    redis.config_set("maxmemory", 1)
    try:
        assert DatabaseRegister(broker_url, KEYS).refusal(identity("a")) is None
        assert DatabaseRegister(broker_url, KEYS).refusal(identity("b")) is not None
    finally:
        redis.config_set("maxmemory", 0)


def test_an_accepted_database_is_not_asked_about_again(broker_url: str) -> None:
    register = DatabaseRegister(broker_url, KEYS)
    assert register.admit(identity("a")) is None
    register._redis = Redis(port=free_port())  # noqa: SLF001 - Redis is away from now on
    assert register.admit(identity("a")) is None
    reason = str(register.admit(identity("b")))
    assert reason.startswith("It is unknown whether b at db")


def test_an_operator_replaces_it(broker_url: str) -> None:
    register = DatabaseRegister(broker_url, KEYS)
    assert register.refusal(identity("a")) is None
    register.replace(identity("b"))
    assert register.refusal(identity("a")) is not None
    assert register.refusal(identity("b")) is None


def test_what_a_newer_version_adds_is_ignored(broker_url: str, redis: Any) -> None:
    text = identity("a").model_dump_json().replace("{", '{"timeline": 3, ', 1)
    redis.hset(KEYS.database, REGISTER_FIELD, text)
    assert DatabaseRegister(broker_url, KEYS).refusal(identity("a")) is None


def test_a_register_that_cannot_be_read_admits_nothing(broker_url: str, redis: Any) -> None:
    redis.hset(KEYS.database, REGISTER_FIELD, "what is this")
    register = DatabaseRegister(broker_url, KEYS)
    with pytest.raises(ResponseError, match="enroll database accept"):
        register.refusal(identity("a"))
    assert register.admit(identity("a")) is not None
    register.replace(identity("a"))
    assert register.admit(identity("a")) is None
