"""Wait for room in the queue, so that a batch of any size needs little memory in Redis."""

import time
from collections.abc import Callable, Iterator
from itertools import repeat

from producer.errors import NoWorkerAnswered

QUEUE_PATIENCE = 600.0
"""How long the queue may stay full, in seconds, before the submitter gives up."""

HALF_EMPTY_PATIENCE = 0.1
"""How long the submitter waits for a full queue to be half empty, in seconds; after that, any room
is enough."""


def wait_for_room(count: Callable[[], int], max_queued: int) -> Iterator[None]:
    """Yield once for each chunk that may be published, after waiting for room in the queue.

    `count` returns how many chunks wait. A full queue may become half empty first: publishing one
    chunk whenever one was taken would need a count for each. Raises NoWorkerAnswered if the queue
    stays full, and what `count` raises.
    """
    while True:
        started = time.monotonic()
        pause = 0.01
        full = max_queued
        while (queued := count()) >= full:
            waited = time.monotonic() - started
            full = max_queued // 2 + 1 if waited < HALF_EMPTY_PATIENCE else max_queued
            if waited > QUEUE_PATIENCE:
                raise NoWorkerAnswered(
                    f"The queue has been full for {QUEUE_PATIENCE:g} s, with {queued} chunks"
                    " waiting. Start a worker, then submit again under the same batch id"
                    " to continue."
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        # Half of the room is left to other submitters, who may be counting at the same time.
        yield from repeat(None, max(1, (max_queued - queued) // 2))
