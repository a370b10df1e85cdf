"""Define the route that lists batches."""

from pydantic import TypeAdapter

from producer.contract.batches import BatchCursor
from producer.web.bodies import BatchList
from producer.web.cursors import read_cursor, write_cursor
from producer.web.parameters import (
    BatchLimit,
    BatchListCursor,
    Client,
    KindOfBatch,
    StateOfBatch,
    SubmitterOfBatch,
)

_PLACE: TypeAdapter[BatchCursor] = TypeAdapter(BatchCursor)


async def get_batches(
    client: Client,
    limit: BatchLimit = 20,
    cursor: BatchListCursor = None,
    state: StateOfBatch = None,
    kind: KindOfBatch = None,
    submitter: SubmitterOfBatch = None,
) -> BatchList:
    """Return a page of the list of batches, newest first, whoever submitted them.

    A batch is listed once a part of it was applied or became a dead letter.
    """
    page = await client.batch_page(
        limit,
        cursor=None if cursor is None else read_cursor(_PLACE, cursor),
        state=state,
        kind=kind,
        submitter=submitter,
    )
    end = None if page.next is None else write_cursor(_PLACE, page.next)
    return BatchList(batches=page.batches, next=end)
