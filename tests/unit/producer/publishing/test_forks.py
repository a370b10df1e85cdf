"""The child of a fork waits for no lock that a thread of its parent held at that moment."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from kombu.connection import Connection

from producer.contract.keys import Keys
from producer.publishing.app import make_app
from producer.publishing.connection import BrokerConnection
from producer.publishing.merging import MergedLookups
from producer.publishing.rosters import PublishedRosters

BROKER = "redis://127.0.0.1:1/0"
PATIENCE = 20
"""Seconds after which a child that waits is ended."""


@contextmanager
def held_by_a_thread(lock: AbstractContextManager[Any]) -> Iterator[None]:
    """Let another thread hold a lock."""
    has_lock, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has_lock.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has_lock.wait()
    try:
        yield
    finally:
        release.set()
        thread.join()


def status_in_a_child(work: Callable[[], Any]) -> int:
    """Do something in the child of a fork; return how the child ended, 0 if well."""
    if not (pid := os.fork()):
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = threading.Timer(PATIENCE, os.kill, (pid, signal.SIGKILL))
    end.start()
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        end.cancel()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (lambda app: app, "amqp"),
        (lambda app: app.amqp, "router"),
        (lambda app: app.amqp, "queues"),
        (lambda app: app.connection_for_write(), "connection_errors"),
    ],
    ids=["app", "router", "queues", "connection"],
)
def test_a_property_of_celery_and_kombu(owner: Callable[[Any], Any], name: str) -> None:
    merged = MergedLookups()
    app = make_app(BROKER, Keys(""), over_redis=True)
    read = owner(app)
    (lock,) = [vars(t)[name].lock for t in type(read).__mro__ if name in vars(t)]
    with held_by_a_thread(lock):
        assert status_in_a_child(lambda: getattr(read, name)) == 0
    assert merged


def test_what_gathers_lookups() -> None:
    merged = MergedLookups()

    def ask() -> None:
        assert merged.ask("sort", [1], 10, lambda ids, _: ids, 5.0) == [1]

    with held_by_a_thread(merged._lock):  # noqa: SLF001
        assert status_in_a_child(ask) == 0
    ask()


def test_the_rosters_of_a_client_are_still_waited_for() -> None:
    rosters = PublishedRosters()
    rosters.add("sis", "b1")

    def look() -> None:
        assert rosters.are_there("sis")

    with held_by_a_thread(rosters._lock):  # noqa: SLF001
        assert status_in_a_child(look) == 0


def test_a_client_connects_anew_in_a_child_of_a_child() -> None:
    connection = BrokerConnection(BROKER, None)
    inherited = connection._redis  # noqa: SLF001

    def use() -> Any:
        with connection._open():  # noqa: SLF001
            return connection._redis  # noqa: SLF001

    def use_twice() -> None:
        own = use()
        assert own is not inherited
        assert use() is own
        assert status_in_a_child(lambda: _require(use() is not own)) == 0

    assert use() is inherited
    with held_by_a_thread(connection._renewal):  # noqa: SLF001
        assert status_in_a_child(use_twice) == 0
    assert use() is inherited


def _require(value: object) -> None:
    assert value


def test_an_object_that_is_gone_is_renewed_no_more() -> None:
    """A process that makes a client for each task, and forks, must not collect them."""
    from producer.publishing import forks  # noqa: PLC0415 - its own state

    before = len(forks._objects)  # noqa: SLF001
    rosters = PublishedRosters()
    assert len(forks._objects) == before + 1  # noqa: SLF001
    del rosters
    assert len(forks._objects) == before  # noqa: SLF001


def test_kombu_still_has_locks_that_all_objects_share() -> None:
    """Without them, `forks` need not look for these properties any more."""
    assert vars(Connection)["manager"].lock
