"""The client against a real broker and worker, and beside clients in other languages.

What it promises wherever it runs is tested in `test_clients.py`.
"""

import os
import uuid
from typing import Any

import pytest
from kombu.connection import Connection

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, NoWorkerAnswered
from producer.publishing.transport import Transport
from producer.schemas import Kind, StudentRecord
from support.plain_celery import plain_celery
from support.rosters import submit_and_finish
from support.stopwatch import Stopwatch
from support.valkey import free_port
from support.workers import Deployment


@pytest.fixture
def roster(client: EnrollmentClient) -> tuple[str, str]:
    """A student and a course of this test's own, by SIS id."""
    student, course = f"S-{uuid.uuid4()}", f"C-{uuid.uuid4()}"
    submit_and_finish(client, Kind.STUDENTS, [StudentRecord(sis_id=student, name="Ada")])
    submit_and_finish(client, Kind.COURSES, [{"sis_id": course, "title": "Logic"}])
    return student, course


def test_messages_share_a_client_of_redis_as_long_as_its_connections_live(
    deployment: Deployment,
) -> None:
    with Connection(deployment.broker_url, transport=Transport) as connection:
        channel = connection.channel()

        def used() -> Any:
            with channel.conn_or_acquire() as made:
                made.ping()
                return made

        first = used()
        assert used() is first
        channel._disconnect_pools()  # noqa: SLF001 - as after a fork
        second = used()
        assert second is not first
        assert used() is second
        with channel.conn_or_acquire(first) as given:
            assert given is first


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ([], {}, "student_id"),
        ([1, 2], {}, "student_id"),
        ([None], {}, "JSON object"),
        ([{"student_id": "S"}], {}, "course_ids"),
        ([{"student_id": "S", "course_ids": ["C"]}], {"x": 1}, "student_id"),
        ([{"student_id": 1.0, "course_ids": ["\x00"]}], {}, "NUL"),
        ([[[[]]]], {}, "JSON object"),
    ],
)
def test_a_foreign_client_who_breaks_the_contract_gets_a_refusal(
    deployment: Deployment,
    client: EnrollmentClient,
    args: list[Any],
    kwargs: dict[str, Any],
    place: str,
) -> None:
    """Any Celery client may publish by the fixed name; it gets a refusal for its mistake."""
    with plain_celery(deployment.broker_url) as app:
        sent = app.send_task("enrollment.enroll", args, kwargs, queue="enrollments")
        answer = sent.get(timeout=20)
    assert answer["status"] == "rejected"
    assert answer["request_id"] == sent.id
    assert {error["code"] for error in answer["errors"]} == {"invalid_request"}
    assert any(place in error["message"] for error in answer["errors"])
    assert client.status(sent.id).state == "done"


def test_a_foreign_client_with_an_invalid_lookup_gets_the_reason(deployment: Deployment) -> None:
    with plain_celery(deployment.broker_url) as app:
        sent = app.send_task("enrollment.student", [["fine", ""]], queue="lookups")
        assert "students[1]: must be our key" in str(sent.get(timeout=20, propagate=False))
    with EnrollmentClient(deployment.broker_url) as client:
        assert client.student("the worker goes on") is None


def test_a_broken_chunk_harms_nothing(
    deployment: Deployment, client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    with plain_celery(deployment.broker_url) as app:
        for broken in ([], [7], [{"batch_id": "x"}], [{"batch_id": "x", "number": -1}]):
            app.send_task("enrollment.enroll_batch", broken, queue="batches")
    student, course = roster
    assert client.enroll({"student_id": student, "course_ids": [course]}).status == "enrolled"


def test_without_a_worker_requests_are_queued_and_lookups_fail(broker_url: str) -> None:
    with EnrollmentClient(broker_url, timeout=0.5) as client:
        client.submit({"student_id": 1, "course_ids": [1]})
        with pytest.raises(NoWorkerAnswered, match=r"No worker answered in 0\.5 s"):
            client.status("anything")
        with pytest.raises(NoWorkerAnswered, match="stays queued"):
            client.enroll({"student_id": 1, "course_ids": [1]})


def test_an_unavailable_broker_is_reported_in_time_without_its_password() -> None:
    port = free_port()
    url = f"redis://user:s3cret@127.0.0.1:{port}/0"
    watch = Stopwatch(os.getpid())
    with EnrollmentClient(url) as client:
        with pytest.raises(BrokerUnavailable) as submitting:
            client.submit({"student_id": 1, "course_ids": [1]})
        with pytest.raises(BrokerUnavailable) as asking:
            client.status("x")
    assert watch.seconds() < 20
    for caught in (submitting, asking):
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert "s3cret" not in str(caught.value)
