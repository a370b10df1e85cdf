"""What an integration engineer does in Python, against a real broker and a real worker."""

import time
import uuid
from typing import Any

import pytest
from kombu.connection import Connection

from producer.client import EnrollmentClient
from producer.errors import BrokerUnavailable, InvalidRequest, NoWorkerAnswered
from producer.publishing.transport import Transport
from producer.schemas import Kind, StudentEnrollmentRequest, StudentRecord
from support.plain_celery import plain_celery
from support.rosters import submit_and_finish
from support.valkey import free_port
from support.waiting import wait_for
from support.workers import Deployment


@pytest.fixture
def roster(client: EnrollmentClient) -> tuple[str, str]:
    """A student and a course of this test's own, by SIS id."""
    student, course = f"S-{uuid.uuid4()}", f"C-{uuid.uuid4()}"
    submit_and_finish(client, Kind.STUDENTS, [StudentRecord(sis_id=student, name="Ada")])
    submit_and_finish(client, Kind.COURSES, [{"sis_id": course, "title": "Logic"}])
    return student, course


def test_a_submitted_request_is_done_and_can_be_read(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    request_id = client.submit({"student_id": student, "course_ids": [course, course]})
    wait_for(lambda: client.status(request_id).state == "done")
    status = client.status(request_id)
    assert status.result is not None
    assert status.result.status == "enrolled"
    assert client.results(student) == [status.result]
    found = client.student(student)
    assert found is not None
    assert [(c.sis_id, c.title) for c in found.courses] == [(course, "Logic")]
    assert client.student(found.id) == found


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


def test_enroll_waits_and_returns_the_result(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    request = StudentEnrollmentRequest(student_id=student, course_ids=(course, "no such course"))
    result = client.enroll(request)
    assert (result.status, [e.code for e in result.errors]) == ("rejected", ["unknown_course"])


def test_a_repeated_request_enrolls_once(client: EnrollmentClient, roster: tuple[str, str]) -> None:
    student, course = roster
    request = {"student_id": student, "course_ids": [course], "request_id": f"mine-{student}"}
    first = client.enroll(request)
    assert client.enroll(request) == first
    assert first.request_id == f"mine-{student}"
    other = client.enroll({**request, "course_ids": ["another"]})
    assert [error.code for error in other.errors] == ["request_id_reused"]


def test_an_unknown_id_is_unknown(client: EnrollmentClient) -> None:
    assert client.status("never submitted").state == "unknown"
    assert client.batch("never submitted").state == "unknown"
    assert client.student("never enrolled") is None
    assert client.results("never enrolled") == []


def test_many_results_are_returned_in_the_requested_order(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    client.enroll({"student_id": student, "course_ids": [course]})
    asked = [f"nobody-{n}" for n in range(1500)] + [student]
    assert [s is not None for s in client.students(asked)] == [False] * 1500 + [True]
    assert [len(r) for r in client.results_of(["nobody-0", student])] == [0, 1]
    assert [b.batch_id for b in client.batches(["x", "y"])] == ["x", "y"]


def test_a_bad_request_is_refused_before_it_is_published(client: EnrollmentClient) -> None:
    with pytest.raises(InvalidRequest, match=r"student_id: must be our key .*, not true"):
        client.submit({"student_id": True, "course_ids": ["C"]})


def test_a_bad_record_of_a_batch_harms_no_other(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    records: list[Any] = [
        {"student_id": student, "course_ids": [course]},
        {"student_id": None, "course_ids": [course]},
        {"student_id": student, "course_ids": ["C"] * 101},
        {"student_id": student, "course_ids": [course], "extra": 1},
    ]
    status = submit_and_finish(client, Kind.ENROLLMENTS, records)
    assert (status.books.enrolled, status.requests_rejected) == (1, 3)
    assert status.refusals[0].first_lines == (2, 3, 4)


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
        assert "list of ids[1]" in str(sent.get(timeout=20, propagate=False))
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
    started = time.monotonic()
    with EnrollmentClient(url) as client:
        with pytest.raises(BrokerUnavailable) as submitting:
            client.submit({"student_id": 1, "course_ids": [1]})
        with pytest.raises(BrokerUnavailable) as asking:
            client.status("x")
    assert time.monotonic() - started < 20
    for caught in (submitting, asking):
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert "s3cret" not in str(caught.value)
