"""Count how many chunks of a submission were applied."""

from collections.abc import Iterator

from producer.contract.batches import AppliedChunks
from producer.errors import BatchConflict
from producer.fields import MAX_LOOKUP
from producer.publishing.batches import SubmittedBatch, check_kind, find_applied
from producer.publishing.connection import BrokerConnection


class AppliedCount:
    """Counts how many chunks of a submission were applied, from the pages that a worker returns."""

    def __init__(self, batch: SubmittedBatch) -> None:
        self._batch = batch
        self._count = self._refused = 0

    def pages(self) -> Iterator[range]:
        """Yield the numbers of the chunks to look up, a page at a time."""
        chunks = len(self._batch.fingerprints)
        for start in range(0, chunks, MAX_LOOKUP):
            yield range(start, min(start + MAX_LOOKUP, chunks))

    def add(self, numbers: range, applied: AppliedChunks) -> None:
        """Count the chunks of a page. Raises BatchConflict if they are of another kind."""
        check_kind(applied, self._batch)
        own = self._batch.fingerprints[numbers.start : numbers.stop]
        pairs = list(zip(own, applied.fingerprints, strict=True))
        self._count += sum(mine == stored for mine, stored in pairs)
        self._refused += sum(stored not in (None, mine) for mine, stored in pairs)

    def total(self) -> int:
        """Return how many chunks were applied; see `EnrollmentClient.count_applied`."""
        if self._refused:
            raise BatchConflict(
                f"A different submission used the batch id {self._batch.batch_id} at the same time:"
                f" {self._refused} of the {self._batch.chunks} chunks of this one were refused, and"
                " their records are not stored. Submit these records again under a new batch id;"
                " rows that are already stored are not added twice."
            )
        return self._count


def count_applied(connection: BrokerConnection, batch: SubmittedBatch, timeout: float) -> int:
    """Return how many chunks of a submission were applied; see `EnrollmentClient.count_applied`."""
    count = AppliedCount(batch)
    for numbers in count.pages():
        count.add(numbers, find_applied(connection, batch.batch_id, numbers, timeout=timeout))
    return count.total()
