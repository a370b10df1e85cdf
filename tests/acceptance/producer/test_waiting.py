"""What an integration engineer writes to submit a file, wait for it, and find it again."""

import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.client import EnrollmentClient
from producer.errors import (
    BatchCannotFinish,
    BatchConflict,
    BatchNotDone,
    NoWorkerAnswered,
    UnreadableFile,
)
from producer.schemas import Kind
from support.stopwatch import Stopwatch
from support.workers import Deployment

pytestmark = pytest.mark.one_database


@pytest.fixture
def client(any_client: EnrollmentClient) -> EnrollmentClient:
    return any_client


def own_id() -> str:
    return f"own-{uuid.uuid4().hex}"


def test_a_file_is_submitted_waited_for_and_found_among_the_newest(
    client: EnrollmentClient, tmp_path: Path
) -> None:
    path = tmp_path / "courses.csv"
    course = own_id()
    path.write_text(f"sis_id,title\n{course},Logic\n,no id\n{course}\xff,\n", encoding="latin-1")
    submitted = client.submit_file(path, batch_id=own_id())
    assert (submitted.kind, submitted.chunks, submitted.tally.rows) == (Kind.COURSES, 1, 3)
    assert submitted.refused_lines == len(submitted.refused) > 0
    status = client.wait(submitted, timeout=60)
    assert status == client.batch(submitted.batch_id)
    assert (status.state, status.books.received, status.books.upserted) == ("done", 3, 1)
    refused = {refusal.line for refusal in client.refusals(submitted.batch_id)}
    assert refused == {3, 4} >= {line.line for line in submitted.refused}
    assert submitted.batch_id in [batch.batch_id for batch in client.recent_batches()]


def test_a_file_is_mapped_as_the_command_does(client: EnrollmentClient, tmp_path: Path) -> None:
    path = tmp_path / "export.txt"
    code = own_id()
    path.write_text(f"code;term;name\n{code};1;Zoë\n", encoding="cp1252")
    maps = {"sis_id": "{code}-{term}", "title": "{name}"}
    submitted = client.submit_file(str(path), kind="courses", maps=maps, encoding="cp1252")
    assert client.wait(submitted.batch_id).books.upserted == 1
    again = client.submit_file(
        path, kind=Kind.COURSES, maps=maps, encoding="cp1252", batch_id=submitted.batch_id
    )
    assert (again.chunks, again.published) == (1, 0)
    assert again.fingerprints == submitted.fingerprints


def test_a_file_that_cannot_be_read_is_named(client: EnrollmentClient, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"nowhere\.csv cannot be read"):
        client.submit_file(tmp_path / "nowhere.csv")


def test_a_finished_batch_needs_no_wait(client: EnrollmentClient) -> None:
    batch = client.submit_batch("students", [{"sis_id": own_id()}])
    first = client.wait(batch, timeout=60)
    assert client.wait(batch, timeout=0) == client.wait(batch.batch_id) == first
    seen: list[str] = []
    client.wait(batch, on_status=lambda status: seen.append(status.state))
    assert seen == ["done"]


def test_an_unknown_batch_is_not_waited_for(
    client: EnrollmentClient, deployment: Deployment
) -> None:
    watch = Stopwatch(os.getpid(), deployment.process.pid, families=True)
    with pytest.raises(BatchCannotFinish, match="No batch with the id never-submitted is known"):
        client.wait("never-submitted")
    assert watch.seconds() < 10


def test_the_wait_for_a_submission_that_another_one_replaced_ends(client: EnrollmentClient) -> None:
    mine = client.submit_batch("students", [{"sis_id": own_id()}], batch_id=own_id())
    client.wait(mine)
    other = mine.model_copy(update={"fingerprints": tuple(f + 1 for f in mine.fingerprints)})
    with pytest.raises(BatchConflict):
        client.count_applied(other)
    with pytest.raises(BatchCannotFinish, match="A different submission used the batch id"):
        client.wait(other)


def test_a_batch_without_a_worker_is_waited_for_as_long_as_the_caller_says(broker_url: str) -> None:
    with EnrollmentClient(broker_url, timeout=30) as client:
        batch = client.submit_batch("students", [{"sis_id": "S"}])
        watch = Stopwatch(os.getpid())
        with pytest.raises(NoWorkerAnswered, match=f"Batch {batch.batch_id} stays queued"):
            client.wait(batch, timeout=0.5)
        assert watch.seconds() < 5


def test_a_wait_whose_time_is_up_says_how_far_the_batch_is(deployment: Deployment) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        batch_id = own_id()
        first_part = threading.Event()

        def records() -> Iterator[dict[str, str]]:
            for number in range(21_000):
                if number == 20_500:  # The first chunk is published once the second one is full.
                    first_part.wait(60)
                yield {"sis_id": f"{batch_id}-{number}"}

        def publish() -> None:
            client.submit_batch("students", records(), batch_id=batch_id)

        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            while client.batch(batch_id).state != "running":
                time.sleep(0.05)
            with pytest.raises(
                BatchNotDone, match=rf"{batch_id} is not done after 0.2 s: .*000 of"
            ):
                client.wait(batch_id, timeout=0.2)
        finally:
            first_part.set()
            publishing.join()
        assert client.wait(batch_id, timeout=60).books.upserted == 21_000
