"""Find the batches of a package by its id, for those who name the package in place of a batch."""

from typing import Final

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState, BatchStatus
from producer.fields import MAX_REQUEST_ID
from producer.schemas import Kind

_LONGEST: Final = MAX_REQUEST_ID - max(len(f":{kind}") for kind in Kind)


def related_batches(client: EnrollmentClient, identity: str) -> list[BatchStatus]:
    """Return the batches that are known under an id, or as the parts of a package with this id.

    Raises NoWorkerAnswered.
    """
    ids = [identity]
    if len(identity) <= _LONGEST:
        ids += [f"{identity}:{kind}" for kind in Kind]
    statuses = client.batches(ids, refusals=False)
    return [status for status in statuses if status.state is not BatchState.UNKNOWN]


def parts_of_package(client: EnrollmentClient, identity: str) -> str | None:
    """Say which batches a package has whose id was given; None if it has none.

    Raises NoWorkerAnswered.
    """
    ids = [status.batch_id for status in related_batches(client, identity)]
    if not ids:
        return None
    return f"{identity} is a package. Its batches are: {', '.join(ids)}."
