"""No message is ever lost on its way to a worker, and a second delivery does no harm."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from producer.client import EnrollmentClient
from producer.contract.keys import Keys
from producer.contract.routing import Queue
from producer.schemas import Kind
from support.databases import dead_letters_at, sqlite_taken_away
from support.fleet import Fleet, Worker, fleet
from support.handover import stopped_with_messages
from support.malformed import message
from support.rosters import enter_roster
from support.waiting import wait_for


@pytest.fixture
def small(tmp_path: Path, new_database: Callable[[str], str]) -> Iterator[Fleet]:
    """A fleet without workers, on SQLite."""
    with fleet(tmp_path, new_database("sqlite")) as made:
        yield made


@pytest.fixture
def client(small: Fleet) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(small.broker.url, timeout=30) as made:
        yield made


def waiting(small: Fleet) -> Callable[[], int]:
    return lambda: sum(map(small.broker.redis.llen, Queue))


def kill_while_it_takes(small: Fleet, client: EnrollmentClient, worker: Worker) -> str:
    """Let Redis move a message to a worker that is stopped, and then kill the worker."""
    client.status("a worker that has answered waits for the next message")
    wait_for(lambda: not small.broker.redis.exists("unacked"))  # kombu's own acknowledgements
    request = {"student_id": "S1", "course_ids": ["C1"]}
    with stopped_with_messages(
        worker.process.pid, waiting(small), lambda: client.submit(request)
    ) as request_id:
        worker.kill()
    small.workers.remove(worker)
    return request_id


def test_a_worker_killed_while_it_receives_a_message_loses_nothing(
    small: Fleet, client: EnrollmentClient
) -> None:
    worker = small.start_worker()
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    request_id = kill_while_it_takes(small, client, worker)
    small.start_worker()
    wait_for(lambda: client.status(request_id).state == "done")
    assert client.results("S1")[0].status == "enrolled"


def test_the_same_kill_loses_the_message_with_kombus_own_transport(
    small: Fleet, client: EnrollmentClient
) -> None:
    """This proves that the test above cannot pass by luck."""
    worker = small.start_worker("support.apps.stock")
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    request_id = kill_while_it_takes(small, client, worker)
    redis = small.broker.redis
    assert (redis.llen("enrollments"), redis.hlen("unacked")) == (0, 0)
    small.start_worker("support.apps.stock")
    time.sleep(8)  # Longer than its visibility timeout.
    assert client.status(request_id).state == "queued"  # No queue has the message.


def test_messages_of_a_killed_worker_are_requeued_from_every_queue(
    small: Fleet, client: EnrollmentClient
) -> None:
    worker = small.start_worker()
    client.status("ready?")
    published = 0

    def publish() -> None:
        nonlocal published
        for queue in Queue:
            small.broker.redis.lpush(queue, json.dumps(message(headers__task="no.such.task")))
            published += 1

    def is_idle() -> bool:
        return small.broker.holds() == 0

    with stopped_with_messages(worker.process.pid, waiting(small), publish, is_idle):
        assert small.broker.holds() == len(Queue)
        worker.kill()
    small.workers.remove(worker)
    started = time.monotonic()
    small.start_worker()
    wait_for(is_idle)
    print(f"came back {time.monotonic() - started:.1f} s after the kill")
    assert len(dead_letters_at(small.database_url)) == published


def test_messages_with_a_priority_are_processed_even_if_workers_are_killed(
    small: Fleet, client: EnrollmentClient
) -> None:
    """Each worker is killed while it moves them to the queue, or soon after."""
    small.start_worker()
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    keys, ids = Keys(), []
    lists = keys.priorities(Queue.ENROLLMENTS)

    def waiting() -> int:
        return sum(map(small.broker.redis.llen, lists))

    for storm in range(4):
        with small.broker.redis.pipeline() as pipeline:
            for number in range(20 * len(lists)):
                ids.append(f"{storm}-{number}")
                request = {"student_id": "S1", "course_ids": ["C1"], "request_id": ids[-1]}
                body = json.dumps(message([[request], {}, {}]))
                pipeline.lpush(lists[number % len(lists)], body)
            pipeline.execute()
        wait_for(lambda: waiting() < 20 * len(lists))
        small.workers.pop().kill()
        small.start_worker()
    wait_for(lambda: all(s.state == "done" for s in client.statuses(ids)))
    wait_for(lambda: small.broker.holds() + waiting() == 0)
    assert dead_letters_at(small.database_url) == []


def test_a_worker_that_was_frozen_for_longer_than_its_lease_does_no_harm(
    small: Fleet, client: EnrollmentClient
) -> None:
    slow, _ = small.start_worker(), small.start_worker()
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    slow.signal_group(signal.SIGSTOP)
    # The stopped worker receives some of these.
    requests = [client.submit({"student_id": "S1", "course_ids": ["C1"]}) for _ in range(20)]
    batch = client.submit_batch(
        Kind.ENROLLMENTS, [{"student_id": "S2", "course_ids": ["C1", "C2"]}] * 50
    )
    wait_for(lambda: all(s.state == "done" for s in client.statuses(requests)))
    wait_for(lambda: client.batch(batch.batch_id).state == "done")
    slow.signal_group(signal.SIGCONT)
    time.sleep(3)
    wait_for(lambda: small.broker.holds() == 0)
    results = client.results("S1", limit=1000)
    assert len(results) == 20
    assert [course.added for r in results for course in r.enrolled_courses].count(True) == 1
    books = client.batch(batch.batch_id).books
    assert (books.enrolled, books.already_enrolled, books.received) == (2, 98, 100)


def test_a_stopping_worker_requeues_the_messages_it_held(
    small: Fleet, client: EnrollmentClient
) -> None:
    worker = small.start_worker()
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    ids = [client.submit({"student_id": "S1", "course_ids": ["C1"]}) for _ in range(300)]
    os.kill(worker.process.pid, signal.SIGTERM)
    assert worker.process.wait(60) == 0
    small.workers.remove(worker)
    slots = small.broker.redis.scan_iter("enrollment.intake.taken.*", 1000)
    assert list(slots) == []  # They are empty at once, and not only when the lease has expired.
    small.start_worker()
    wait_for(lambda: all(s.state == "done" for s in client.statuses(ids)))


def test_a_worker_ends_even_if_it_is_stopped_while_it_hands_over_a_chunk(
    small: Fleet, client: EnrollmentClient
) -> None:
    worker = small.start_worker()
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    processes = worker.pool()
    for process in processes:
        process.suspend()
    # More than fits into a pipe, so a part of it remains to be written.
    unknown = [{"student_id": "S1", "course_ids": [f"C{i}-{'x' * 50}"]} for i in range(5_000)]
    known = {"student_id": "S1", "course_ids": ["C1", "C2"]}
    batch = client.submit_batch(Kind.ENROLLMENTS, [known, *unknown])
    wait_for(lambda: waiting(small)() == 0)
    time.sleep(0.5)
    os.kill(worker.process.pid, signal.SIGTERM)
    time.sleep(1)
    for process in processes:
        process.resume()
    assert worker.process.wait(30) == 0
    small.workers.remove(worker)
    small.start_worker()
    wait_for(lambda: client.batch(batch.batch_id).state == "done")
    books = client.batch(batch.batch_id).books
    assert (books.enrolled, books.already_enrolled, books.rejected) == (2, 0, 5_000)
    assert small.broker.holds() == 0


def test_a_full_redis_lets_workers_empty_its_queues(small: Fleet, client: EnrollmentClient) -> None:
    worker = small.start_worker()
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    worker.end()
    small.workers.remove(worker)
    ids = [client.submit({"student_id": "S1", "course_ids": ["C1"]}) for _ in range(50)]
    with small.broker.full():
        small.start_worker()  # A worker must be able to start, too.
        wait_for(lambda: small.broker.holds() == 0)
    assert all(status.state == "done" for status in client.statuses(ids))


def test_a_connection_that_falls_silent_and_breaks_loses_nothing(
    small: Fleet, client: EnrollmentClient
) -> None:
    small.start_worker(proxied=True)
    enter_roster(client, ["S1", "S2"], ["C1", "C2"])
    with small.name.silent():
        ids = [client.submit({"student_id": "S1", "course_ids": ["C1"]}) for _ in range(5)]
        time.sleep(3)
    small.name.cut()
    wait_for(lambda: all(s.state == "done" for s in client.statuses(ids)))


def test_a_malformed_message_waits_for_an_unavailable_database(
    small: Fleet, client: EnrollmentClient
) -> None:
    worker = small.start_worker()
    client.status("ready?")
    worker.end()
    small.workers.remove(worker)
    with sqlite_taken_away(small.database_url):
        small.start_worker()
        small.broker.redis.lpush("enrollments", b"not JSON")
        wait_for(lambda: small.broker.redis.llen("enrollments") == 0)
        time.sleep(2)
        assert small.broker.holds() == 1  # The message is whole, in its worker's slot.
    wait_for(lambda: small.broker.holds() == 0)
    assert [letter.content for letter in dead_letters_at(small.database_url)] == [b"not JSON"]
