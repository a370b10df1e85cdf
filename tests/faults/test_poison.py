"""A record that kills its worker, or always fails, does not harm any other."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.routing import TaskName
from producer.schemas import Code, Kind
from support.commands import invoke_enroll
from support.databases import dead_letters, opened_database
from support.fleet import Fleet, fleet
from support.malformed import message
from support.rosters import enter_roster, finished
from support.waiting import wait_for
from worker.database.engine import Database
from worker.recovery.retry import CannotRetry, retry_letter

STUDENTS = 400


@pytest.fixture
def sick(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[str], str]
) -> Iterator[tuple[Fleet, EnrollmentClient, Database]]:
    """A worker for which two courses are poison, and a roster."""
    dialect = getattr(request, "param", "sqlite")
    with fleet(tmp_path, new_database(dialect)) as made:
        made.start_worker("support.apps.poisoned")
        with (
            opened_database(made.database_url) as database,
            EnrollmentClient(made.broker.url, timeout=30) as client,
        ):
            enter_roster(client, [f"S{n}" for n in range(STUDENTS)], ["C1", "KILLS", "RAISES"])
            yield made, client, database


@pytest.mark.parametrize("sick", ["sqlite", "postgresql"], indirect=True)
def test_only_the_poison_records_of_a_chunk_become_dead_letters(
    sick: tuple[Fleet, EnrollmentClient, Database],
) -> None:
    _, client, database = sick
    records = [{"student_id": f"S{n}", "course_ids": ["C1"]} for n in range(STUDENTS)]
    records[17]["course_ids"] = ["C1", "KILLS"]
    records[18] = {"student_id": "S18", "course_ids": ["RAISES"], "request_id": "own-18"}
    records[390]["course_ids"] = ["RAISES"]
    poisoned = client.submit_batch(Kind.ENROLLMENTS, records).batch_id
    good = client.submit_batch(Kind.ENROLLMENTS, records[100:200]).batch_id
    status = finished(client, poisoned, 90)
    assert (status.books.received, status.books.rejected) == (STUDENTS + 1, 4)
    assert status.books.enrolled + status.books.already_enrolled == STUDENTS - 3
    assert finished(client, good, 90).books.rejected == 0
    (group,) = status.refusals
    assert (group.code, group.first_lines[:1]) == (Code.NOT_PROCESSED, (18,))
    kept = dead_letters(database)
    assert [letter.request_id for letter in kept] == [
        f"{poisoned}:0:17",
        "own-18",
        f"{poisoned}:0:390",
    ]
    assert "SIGKILL" in kept[0].detail
    assert "ZeroDivisionError" in kept[1].detail
    refused = client.status("own-18").result
    assert refused is not None
    assert [problem.code for problem in refused.errors] == [Code.NOT_PROCESSED]


@pytest.mark.parametrize("sick", ["sqlite", "postgresql"], indirect=True)
def test_a_single_request_that_kills_its_worker_gets_a_result(
    sick: tuple[Fleet, EnrollmentClient, Database],
) -> None:
    made, client, database = sick
    deadly = client.submit({"student_id": "S1", "course_ids": ["KILLS"]})
    harmless = [client.submit({"student_id": f"S{n}", "course_ids": ["C1"]}) for n in range(50)]
    submitted = datetime.now(UTC)
    wait_for(lambda: client.status(deadly).state == "done", 60)
    answer = client.status(deadly).result
    assert answer is not None
    assert [problem.code for problem in answer.errors] == [Code.NOT_PROCESSED]
    wait_for(lambda: all(s.state == "done" for s in client.statuses(harmless)))
    results = [s.result for s in client.statuses(harmless) if s.result]
    assert {result.status for result in results} == {"enrolled"}
    (letter,) = dead_letters(database)
    assert letter.request_id == deadly
    # Whether decided in a group, alone or in a trial, each counts when it was submitted.
    moments = [answer.moment, *(result.moment for result in results)]
    assert all(moment is not None and moment < submitted for moment in moments)
    assert letter.moment == answer.moment
    assert made.workers[0].alive()
    # Submitted again under its id, it gets its first result and kills no worker.
    again = {"student_id": "S1", "course_ids": ["KILLS"], "request_id": deadly}
    assert client.enroll(again, timeout=60).errors == answer.errors


def test_an_earlier_result_under_the_same_id_does_not_hide_poison(
    sick: tuple[Fleet, EnrollmentClient, Database],
) -> None:
    made, client, database = sick
    with Redis.from_url(made.broker.url) as redis:
        for course in ("C1", "KILLS"):
            name = f"asks-{course}"
            request = {"student_id": "S1", "course_ids": [course], "request_id": name}
            sent = message([[request], {}, {}], headers__id="used-twice")
            redis.lpush("enrollments", json.dumps(sent))
            wait_for(lambda: client.status(name).state == "done", 60)  # noqa: B023 - at once
    assert [letter.request_id for letter in dead_letters(database)] == ["asks-KILLS"]


@pytest.mark.parametrize("sick", ["sqlite", "postgresql"], indirect=True)
def test_a_dead_letter_that_is_retried_twice_takes_effect_once(
    sick: tuple[Fleet, EnrollmentClient, Database],
) -> None:
    small, client, database = sick
    request = {"student_id": "S3", "course_ids": ["RAISES"], "request_id": "mended"}
    assert client.enroll(request, timeout=60).errors[0].code is Code.NOT_PROCESSED
    batch = client.submit_batch(Kind.ENROLLMENTS, [{"student_id": "S4", "course_ids": ["KILLS"]}])
    finished(client, batch.batch_id, 90)
    # This process has no fault: it is the next release.
    single, of_batch = dead_letters(database)
    urls = {"ENROLL_DATABASE_URL": small.database_url, "ENROLL_BROKER_URL": small.broker.url}
    retried = invoke_enroll("dead-letters", "retry", str(single.id), str(of_batch.id), **urls)
    assert retried.stdout.splitlines() == [f"{single.id}: enrolled", f"{of_batch.id}: enrolled"]
    with pytest.raises(CannotRetry, match="there is no dead letter"):
        retry_letter(database, single.id)
    mended = client.status("mended").result
    assert mended is not None
    assert (mended.status, mended.errors) == ("enrolled", ())
    assert client.results("S4")[0].status == "enrolled"
    assert client.results("S4")[0].batch_id == batch.batch_id
    assert dead_letters(database) == []


def test_a_chunk_that_breaks_the_contract_is_stored_whole(
    sick: tuple[Fleet, EnrollmentClient, Database],
) -> None:
    made, _, database = sick
    raw = {"batch_id": "b", "number": -1, "records": []}
    made.broker.redis.lpush(
        "batches", json.dumps(message([[raw], {}, {}], headers__task=TaskName.ENROLL_BATCH))
    )
    wait_for(lambda: len(dead_letters(database)) == 1)
    (letter,) = dead_letters(database)
    assert (letter.reason, letter.batch_id) == ("invalid_chunk", "b")
    assert "number" in letter.detail
    wait_for(lambda: made.broker.holds() == 0)


def test_a_different_chunk_under_the_same_number_is_stored_whole(
    sick: tuple[Fleet, EnrollmentClient, Database],
) -> None:
    made, client, database = sick
    one = [{"student_id": "S1", "course_ids": ["C1"]}]
    other = [{"student_id": "S2", "course_ids": ["C1"]}]
    client.submit_batch(Kind.ENROLLMENTS, one, batch_id="same", resume=False)
    finished(client, "same", 90)
    # A program in another language claims no batch id.
    chunk = {"batch_id": "same", "number": 0, "last": True, "records": other}
    raw = json.dumps(message([[chunk], {}, {}], headers__task=TaskName.ENROLL_BATCH.value))
    with Redis.from_url(made.broker.url) as redis:
        redis.lpush("batches", raw)
    wait_for(lambda: len(dead_letters(database)) == 1)
    assert dead_letters(database)[0].reason == "conflict"
    with pytest.raises(CannotRetry, match="a different chunk was already applied"):
        retry_letter(database, dead_letters(database)[0].id)
    student = client.student("S2")
    assert student is not None
    assert student.courses == ()
