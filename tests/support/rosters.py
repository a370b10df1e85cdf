"""Submit batches, and the students and courses that requests refer to."""

from collections.abc import Iterable
from typing import Any

from producer.client import EnrollmentClient
from producer.contract.batches import BatchStatus
from producer.schemas import Kind
from support.waiting import wait_for


def finished(client: EnrollmentClient, batch_id: str, seconds: float = 60) -> BatchStatus:
    """Wait until a batch is done, and return its status."""
    wait_for(lambda: client.batch(batch_id).state == "done", seconds)
    return client.batch(batch_id)


def submit_and_finish(client: EnrollmentClient, kind: Kind, records: Iterable[Any]) -> BatchStatus:
    """Submit a batch and wait until it is done."""
    return finished(client, client.submit_batch(kind, records).batch_id)


def enter_roster(
    client: EnrollmentClient,
    students: Iterable[str | dict[str, str]],
    courses: Iterable[str | dict[str, str]],
) -> None:
    """Enter students and courses, each as a record or just its SIS id."""
    batches = [
        client.submit_batch(
            kind, [{"sis_id": one} if isinstance(one, str) else one for one in records]
        )
        for kind, records in ((Kind.STUDENTS, students), (Kind.COURSES, courses))
    ]
    for batch in batches:
        finished(client, batch.batch_id)
