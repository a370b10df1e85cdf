"""The latest request wins: rosters and enrollments in order, with real workers and clocks."""

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.contract.headers import moment_headers
from producer.schemas import Kind
from support.clients import blocking
from support.plain_celery import plain_celery
from support.rosters import enter_roster, finished
from support.valkey import running_valkey
from support.waiting import wait_for
from support.workers import Deployment, running_worker

TURNS = int(os.environ.get("ORDER_TURNS", "3"))
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("turn", range(TURNS))
def test_the_later_of_two_lines_wins_across_chunks_and_batches(
    deployment: Deployment, client: EnrollmentClient, turn: int
) -> None:
    """The second line is 10,000 lines later, and so in another chunk; the worker has two processes.

    `ORDER_TURNS` says how often this is tried.
    """
    del turn
    name, other = f"RACE-{uuid.uuid4().hex}", f"RACE-{uuid.uuid4().hex}"
    between = ({"sis_id": f"Z{n:05}", "name": f"Person {n}"} for n in range(9_999))
    records = [{"sis_id": name, "name": "old"}, *between, {"sis_id": name, "name": "new"}]
    first = client.submit_batch(Kind.STUDENTS, [*records, {"sis_id": other, "name": "old"}])
    second = client.submit_batch(Kind.STUDENTS, [{"sis_id": other, "name": "new"}])
    for batch in (first, second):
        finished(client, batch.batch_id)
    found = client.students([name, other])
    assert [student and student.name for student in found] == ["new", "new"]


@pytest.fixture(params=["real", "asynchronous"])
def own_client(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Any]:
    """A client that has not published anything yet."""
    if request.param == "real":
        with EnrollmentClient(deployment.broker_url, timeout=20) as made:
            yield made
    else:
        make = lambda: AsyncEnrollmentClient(deployment.broker_url, timeout=20)  # noqa: E731
        with blocking(make) as made:
            yield made


def test_a_batch_of_enrollments_waits_for_the_rosters_of_its_client(own_client: Any) -> None:
    name = uuid.uuid4().hex
    students = [{"sis_id": f"{name}-{n}", "name": "N"} for n in range(20_000)]
    own_client.submit_batch(Kind.COURSES, [{"sis_id": f"C-{name}"}])
    own_client.submit_batch(Kind.STUDENTS, students)
    pairs = [{"student_id": s["sis_id"], "course_ids": [f"C-{name}"]} for s in students[-500:]]
    status = own_client.wait(own_client.submit_batch(Kind.ENROLLMENTS, pairs), timeout=60)
    assert (status.books.enrolled, status.books.rejected) == (500, 0)


def test_the_wait_can_be_switched_off_and_ends_for_a_roster_that_is_lost(
    own_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    own_client._rosters.add(None, "never-submitted")  # noqa: SLF001 - as if Redis had lost it
    pair = [{"student_id": "S", "course_ids": ["nothing"]}]
    with caplog.at_level(logging.WARNING):
        own_client.submit_batch(Kind.ENROLLMENTS, pair, wait_for_rosters=False)
        assert caplog.text == ""  # The end of a wait for it would have been told, once.
        own_client.submit_batch(Kind.ENROLLMENTS, pair)
    assert "never-submitted" in caplog.text
    caplog.clear()
    own_client.submit_batch(Kind.ENROLLMENTS, pair)
    assert caplog.text == ""


@pytest.fixture(params=["sqlite", "postgresql"])
def with_wrong_clocks(
    request: pytest.FixtureRequest, new_database: Any, tmp_path: Any
) -> Iterator[str]:
    """The broker of two workers whose clocks are two hours ahead and two hours behind."""
    database_url = new_database(request.param)
    with running_valkey(tmp_path / "valkey") as server, ExitStack() as stack:
        url = f"{server.connection_url}/0"
        for hours in ("2", "-2"):
            stack.enter_context(
                running_worker(
                    url,
                    database_url,
                    tmp_path / f"{hours}.log",
                    "--concurrency=1",
                    app="support.apps.wrong_clock",
                    settings={"CLOCK_HOURS": hours},
                    fresh=True,
                )
            )
        yield url


def test_clocks_of_workers_that_are_hours_off_change_no_order(with_wrong_clocks: str) -> None:
    with (
        EnrollmentClient(with_wrong_clocks, timeout=20) as client,
        plain_celery(with_wrong_clocks) as app,
    ):
        enter_roster(client, [f"S{n}" for n in range(40)], ["C"])
        started = datetime.now(UTC) - MINUTE
        for number in range(20):
            students = [{"sis_id": f"S{n}", "name": str(number)} for n in range(40)]
            client.submit_batch(Kind.STUDENTS, students, batch_id=f"roster-{number}")
            request = {"student_id": f"S{number}", "course_ids": ["C"], "request_id": f"r{number}"}
            if number % 2:
                client.submit(request)
            else:
                app.send_task("enrollment.enroll", [request], queue="enrollments")
        for number in range(20):
            finished(client, f"roster-{number}")
        wait_for(lambda: all(s.result for s in client.statuses([f"r{n}" for n in range(20)])))
        end = datetime.now(UTC) + MINUTE
        found = client.students([f"S{n}" for n in range(40)])
        assert {student and student.name for student in found} == {"19"}
        for status in client.statuses([f"r{n}" for n in range(20)]):
            assert status.result is not None
            assert status.result.moment is not None
            assert started < status.result.moment < end
            assert started < status.result.completed_at < end
        enrolled = [c.enrolled_at for s in found if s is not None for c in s.courses]
        assert len(enrolled) == 20
        assert all(started < at < end for at in enrolled)


def test_a_header_of_another_language_counts_unless_it_lies_ahead(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    name = uuid.uuid4().hex
    enter_roster(client, [f"S-{name}"], [f"C-{name}", f"D-{name}"])
    now = datetime.now(UTC)
    with plain_celery(deployment.broker_url) as app:
        for course, sent in ((f"C-{name}", now - MINUTE), (f"D-{name}", now + 6 * MINUTE)):
            request = {"student_id": f"S-{name}", "course_ids": [course], "request_id": course}
            headers = moment_headers(sent)
            app.send_task("enrollment.enroll", [request], queue="enrollments", headers=headers)
        wait_for(lambda: all(s.result for s in client.statuses([f"C-{name}", f"D-{name}"])))
        malformed = app.send_task(
            "enrollment.enroll",
            [{"student_id": f"S-{name}", "course_ids": [f"C-{name}"]}],
            queue="enrollments",
            headers={"enrollment-moment": "yesterday"},
        )
        with pytest.raises(Exception, match="with its time zone"):
            malformed.get(timeout=20)
    student = client.student(f"S-{name}")
    assert student is not None
    past, ahead = (course.enrolled_at for course in student.courses)
    assert past == now - MINUTE
    assert abs(ahead - now) < MINUTE


def test_a_request_submitted_again_after_it_was_lost_keeps_its_moment(
    deployment: Deployment, client: EnrollmentClient
) -> None:
    name = uuid.uuid4().hex
    request = {"student_id": f"S-{name}", "course_ids": [f"C-{name}"], "request_id": name}
    enter_roster(client, [f"S-{name}"], [f"C-{name}"])
    marked = client._connection.mark_requests([name], [name])[name]  # noqa: SLF001 - and its message is lost
    time.sleep(0.05)
    with EnrollmentClient(deployment.broker_url, timeout=20) as other:
        assert other.enroll(request).moment == marked


FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@pytest.mark.skipif(FAKETIME is None and "CI" not in os.environ, reason="There is no libfaketime.")
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_clock_of_redis_decides_even_if_it_is_minutes_ahead_of_all_others(
    dialect: str, new_database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, ExitStack() as stack:
        patch.setenv("LD_PRELOAD", str(FAKETIME))
        patch.setenv("FAKETIME", "+6m")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        server = stack.enter_context(running_valkey(tmp_path / "valkey"))
        for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC"):
            patch.delenv(name)
        url = f"{server.connection_url}/0"
        stack.enter_context(
            running_worker(url, new_database(dialect), tmp_path / "log", "--concurrency=2")
        )
        client = stack.enter_context(EnrollmentClient(url, timeout=20))
        enter_roster(client, ["S"], ["C"])
        now = datetime.now(UTC)
        result = client.enroll({"student_id": "S", "course_ids": ["C"]})
        assert result.moment is not None
        assert abs(result.moment - now - 6 * MINUTE) < MINUTE / 2
        # By the clock of the machine this is eleven minutes ahead, by that of Redis five.
        soon = {"sis_id": "S", "name": "soon", "as_of": now + 10.5 * MINUTE}
        late = {"sis_id": "S", "name": "late", "as_of": now + 13 * MINUTE}
        # On this machine's clock it is later than what was submitted before, but not on Redis's.
        old = {"sis_id": "S", "email": "old", "as_of": now + 5 * MINUTE}
        first = client.submit_batch(Kind.STUDENTS, [{"sis_id": "S", "name": "n", "email": "new"}])
        finished(client, first.batch_id)
        books = finished(
            client, client.submit_batch(Kind.STUDENTS, [soon, late, old]).batch_id
        ).books
        assert (books.upserted, books.superseded, books.rejected) == (1, 1, 1)
        student = client.student("S")
        assert student is not None
        assert (student.name, student.email) == ("soon", "new")
        if dialect == "postgresql":
            assert abs(result.completed_at - now) < MINUTE
