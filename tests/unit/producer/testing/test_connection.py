"""The connection in memory has all that the real one has, and no part of it reaches Redis."""

import inspect
import threading

import pytest

from producer.errors import BrokerUnavailable
from producer.publishing.connection import BrokerConnection
from producer.testing import FakeEnrollmentClient
from producer.testing.connection import MemoryConnection

REQUEST = {"student_id": "S", "course_ids": ["C"], "request_id": "r"}
BUILT_ON_OTHERS = {"ask", "wait"}
"""Methods that are made of the others."""

ONLY_AFTER_A_FORK = {"after_fork"}
"""Methods that are only called for connections that the constructor of the real one has listed."""


def test_every_method_that_reaches_the_broker_is_replaced() -> None:
    public = {
        name
        for name, _ in inspect.getmembers(BrokerConnection, inspect.isfunction)
        if not name.startswith("_")
    }
    assert public - vars(MemoryConnection).keys() == BUILT_ON_OTHERS | ONLY_AFTER_A_FORK


def test_what_is_queued_without_a_worker_is_processed_later() -> None:
    client = FakeEnrollmentClient(timeout=0.1)
    with client.without_worker():
        client.submit_batch("students", [{"sis_id": "S"}], batch_id="students", resume=False)
        client.submit(REQUEST)
    assert client.batch("students").state == "done"
    status = client.status("r")
    assert status.result is not None
    assert [error.code for error in status.result.errors] == ["unknown_course"]


def test_a_lookup_without_a_worker_is_answered_if_one_comes_in_time() -> None:
    client = FakeEnrollmentClient(timeout=30)
    states: list[str] = []
    with client.without_worker():
        asking = threading.Thread(target=lambda: states.append(client.status("x").state))
        asking.start()
        asking.join(0.1)
        assert states == []
    asking.join(30)
    assert states == ["unknown"]


def test_nothing_is_published_while_the_broker_is_unavailable() -> None:
    client = FakeEnrollmentClient()
    with client.without_broker():
        with pytest.raises(BrokerUnavailable, match="memory:// is not available"):
            client.submit(REQUEST)
        with pytest.raises(BrokerUnavailable):
            client.submit_batch("students", [{"sis_id": "S"}])
        with pytest.raises(BrokerUnavailable):
            client.status("r")
    assert client.status("r").state == "unknown"
