"""`enroll status --watch` and `enroll wait` follow requests and batches until they have ended."""

import json
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import Result
from redis import Redis

from producer import waiting
from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS, SubmissionMark
from producer.publishing import chunking
from producer.schemas import Kind
from support.commands import (
    GOOD,
    INTERRUPTED,
    REFUSED,
    UNREACHABLE,
    invoke_enroll,
    invoke_on_terminal,
)
from support.rosters import enter_roster, finished
from support.waiting import wait_for
from support.workers import Deployment

# One process of the test run starts a deployment, for all of these tests.
pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("following")]

ROWS = 100
"""The rows of a chunk."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "CHUNK_ROWS", ROWS)


@pytest.fixture
def client(module_deployment: Deployment) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(module_deployment.broker_url, timeout=20) as connected:
        yield connected


@pytest.fixture
def enroll(module_deployment: Deployment) -> Callable[..., Result]:
    def run(*arguments: str, on_terminal: bool = False) -> Result:
        variables = {"ENROLL_BROKER_URL": module_deployment.broker_url, "TERM": "xterm"}
        invoke = invoke_on_terminal if on_terminal else invoke_enroll
        return invoke(*arguments, **variables)

    return run


@contextmanager
def half_submitted(client: EnrollmentClient) -> Iterator[tuple[str, threading.Event]]:
    """A batch whose first chunk is applied, and whose others follow when the event is set."""
    batch_id, go_on = uuid.uuid4().hex, threading.Event()

    def records() -> Iterator[dict[str, Any]]:
        for number in range(5 * ROWS):
            if number == 2 * ROWS + 1:
                go_on.wait(60)
            yield {"sis_id": f"{batch_id}-{number}"}

    submit = threading.Thread(
        target=lambda: client.submit_batch(Kind.STUDENTS, records(), batch_id=batch_id)
    )
    submit.start()
    try:
        wait_for(lambda: client.batch(batch_id).chunks_applied >= 1)
        yield batch_id, go_on
    finally:
        go_on.set()
        submit.join()


@contextmanager
def after(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Do something meanwhile, so many seconds later."""
    timer = threading.Timer(seconds, action)
    timer.start()
    yield
    timer.join()


@contextmanager
def once_it_shows(action: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as the command that is run meanwhile has printed something."""
    outside = sys.stdout

    def has_printed() -> bool:
        printed = getattr(sys.stdout, "buffer", None)
        return sys.stdout is not outside and bool(printed and printed.getvalue())

    def act() -> None:
        wait_for(has_printed)
        action()

    acting = threading.Thread(target=act)
    acting.start()
    yield
    acting.join()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_each_change_is_a_line_until_the_batch_is_done(
    client: EnrollmentClient, enroll: Callable[..., Result]
) -> None:
    with half_submitted(client) as (batch_id, go_on), once_it_shows(go_on.set):
        done = enroll("status", batch_id, "--watch")
    assert done.exit_code == GOOD, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == len({*lines})
    form = r"{}: {}, (\d+) of \d+ rows applied, \1 added or changed, 0 unchanged, 0 rejected"
    assert re.fullmatch(form.format(batch_id, "running"), lines[0])
    assert re.fullmatch(form.format(batch_id, "done"), lines[-1])
    assert "500 of 500 rows" in lines[-1]
    assert done.stderr == ""


def test_with_json_each_change_is_an_object_and_the_last_has_the_refusals(
    client: EnrollmentClient, enroll: Callable[..., Result]
) -> None:
    with half_submitted(client) as (batch_id, go_on), once_it_shows(go_on.set):
        done = enroll("status", batch_id, "--watch", "--json")
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert [states[0]["state"], states[-1]["state"]] == ["running", "done"]
    records = [{"student_id": "nobody", "course_ids": ["C"]}]
    client.submit_batch(Kind.ENROLLMENTS, records, batch_id=f"{batch_id}-refused")
    for command in ("status", "wait"):
        options = ["--watch"] if command == "status" else []
        done = enroll(command, f"{batch_id}-refused", *options, "--json")
        assert done.exit_code == REFUSED
        last = json.loads(done.stdout.splitlines()[-1])
        assert [group["code"] for group in last["refusals"]] == ["unknown_student"]


def test_on_a_terminal_the_status_is_redrawn_and_stays_at_the_end(
    client: EnrollmentClient, enroll: Callable[..., Result]
) -> None:
    with half_submitted(client) as (batch_id, go_on), once_it_shows(go_on.set):
        done = enroll("status", batch_id, "--watch", on_terminal=True)
    assert done.exit_code == GOOD, done.output
    assert "\x1b[1A\x1b[2K" in done.stdout  # It goes up and erases what it wrote before.
    *_, last = done.stdout.split("Batch ")
    assert "done" in last
    assert "finished " in last
    assert "\x1b[1A" not in last


def test_ctrl_c_ends_the_watch_and_gives_the_cursor_back(
    client: EnrollmentClient, enroll: Callable[..., Result]
) -> None:
    with half_submitted(client) as (batch_id, _):
        for on_terminal in (False, True):
            with once_it_shows(interrupt):
                done = enroll("status", batch_id, "--watch", on_terminal=on_terminal)
            assert done.exit_code == INTERRUPTED, done.output
            assert done.stderr == "Interrupted.\n"
    assert done.stdout.rindex("\x1b[?25h") > done.stdout.rindex("\x1b[?25l")


def test_requests_and_batches_are_waited_for_together(
    client: EnrollmentClient, enroll: Callable[..., Result]
) -> None:
    enter_roster(client, ["W1"], ["WC1"])
    request_id = client.submit({"student_id": "W1", "course_ids": ["WC1"]})
    refused = client.submit({"student_id": "W1", "course_ids": ["none"]})
    wait_for(lambda: client.status(request_id).state == "done")
    with half_submitted(client) as (batch_id, go_on):
        done = enroll("wait", batch_id, request_id, "--timeout", "0.5")
        assert done.exit_code == UNREACHABLE
        assert f"After 0.5 s, 1 of 2 have not ended, the first of them {batch_id}" in done.stderr
        assert done.stdout.splitlines()[0].startswith(f"{batch_id}: running, ")
        with after(1, go_on.set):
            done = enroll("wait", batch_id, request_id)
        assert (done.exit_code, done.stderr) == (GOOD, "")
        lines = done.stdout.splitlines()
        assert lines[0].startswith(f"{batch_id}: done, 500 of 500 rows applied")
        assert lines[1:] == [f"{request_id}: enrolled"]
    done = enroll("wait", request_id, refused, request_id)
    assert done.exit_code == REFUSED
    assert done.stdout.splitlines() == [
        f"{request_id}: enrolled",
        f"{refused}: rejected; no course has the SIS id 'none'",
    ]


def test_an_outage_of_the_broker_is_waited_out(
    client: EnrollmentClient, enroll: Callable[..., Result], module_deployment: Deployment
) -> None:
    with Redis.from_url(module_deployment.broker_url) as redis:
        broker = int(redis.info("server")["process_id"])

    def go_on_after_an_outage() -> None:
        os.kill(broker, signal.SIGSTOP)
        timer.start()

    def end_outage() -> None:
        os.kill(broker, signal.SIGCONT)
        go_on.set()

    timer = threading.Timer(5, end_outage)
    with half_submitted(client) as (batch_id, go_on), after(1, go_on_after_an_outage):
        done = enroll("wait", batch_id)
        timer.join()
    assert (done.exit_code, done.stderr) == (GOOD, "")
    assert ": done, " in done.stdout


def test_a_batch_whose_mark_is_lost_is_waited_for_only_a_while(
    client: EnrollmentClient,
    enroll: Callable[..., Result],
    module_deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "UNKNOWN_PATIENCE", 2)
    mark = SubmissionMark(kind=Kind.STUDENTS, chunks=1).model_dump_json()
    with Redis.from_url(module_deployment.broker_url) as redis:
        redis.set(Keys().batch("lost"), mark, ex=MARK_SECONDS)
        redis.set(Keys().batch("late"), mark, ex=MARK_SECONDS)
        with after(1, lambda: redis.delete(Keys().batch("lost"), Keys().batch("late"))):
            done = enroll("wait", "lost")
        assert done.exit_code == REFUSED
        assert done.stdout == "lost: unknown\n"
        redis.set(Keys().batch("late"), mark, ex=MARK_SECONDS)
        monkeypatch.setattr(waiting, "UNKNOWN_PATIENCE", 60)

        def apply_late() -> None:
            redis.delete(Keys().batch("late"))
            client.submit_batch(Kind.STUDENTS, [{"sis_id": "late"}], batch_id="late")

        with after(1, apply_late):
            done = enroll("wait", "late")
        assert done.exit_code == GOOD, done.output
    finished(client, "late")
