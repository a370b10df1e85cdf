"""List batches, the newest first, a page at a time. Reads only; knows no Celery."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from producer.contract.batches import BatchPage, BatchState, BatchStatus
from producer.schemas import Kind
from worker.batches.places.repository import BatchPlace, find_places
from worker.database.engine import Database

EXAMINED: Final = 500
"""The most batches that are examined for a page of those in one state, unless its limit is larger.

The state of a batch is not stored: it is decided from its chunks, its mark and what waits.
"""

AT_ONCE: Final = 50
"""How many of them are examined at a time, unless the limit of the page is larger."""

StatusesOf = Callable[[list[str]], list[BatchStatus]]
"""Returns the status of batches, in order."""


class BatchSearch(NamedTuple):
    """Which batches are listed, and after which place the page begins; None selects all."""

    cursor: tuple[datetime, str] | None = None
    state: BatchState | None = None
    kind: Kind | None = None
    submitter: str | None = None


def batch_page(
    database: Database, search: BatchSearch, limit: int, statuses_of: StatusesOf
) -> BatchPage:
    """Return a page of the list of batches: at most `limit`, those with the latest moment first.

    The place of a batch never changes, so a batch that was listed when the first page was read is
    on exactly one page. A page may be short although more follow, because it ends after `EXAMINED`
    batches if only those in one state are wanted.
    """
    if search.state is BatchState.UNKNOWN:
        return BatchPage()  # No batch in the list is unknown.
    most = limit if search.state is None else max(limit, EXAMINED)
    with database.reading() as connection:
        places = find_places(connection, search.cursor, most + 1, search.kind, search.submitter)
    listed: list[BatchStatus] = []
    examined = 0
    for place, status in _with_status(places[:most], statuses_of, max(limit, AT_ONCE)):
        examined += 1
        # A batch that has been pruned in the meantime is unknown.
        is_listed = status.state is not BatchState.UNKNOWN
        if is_listed and search.state in (None, status.state):
            listed.append(status.model_copy(update={"submitted_at": place.moment}))
        if len(listed) == limit:
            break
    has_more = examined < len(places)
    return BatchPage(batches=tuple(listed), next=places[examined - 1] if has_more else None)


def _with_status(
    places: Sequence[BatchPlace], statuses_of: StatusesOf, size: int
) -> Iterator[tuple[BatchPlace, BatchStatus]]:
    """Yield each place with the status of its batch; these are looked up a few at a time."""
    for start in range(0, len(places), size):
        some = places[start : start + size]
        yield from zip(some, statuses_of([place.id for place in some]), strict=True)
