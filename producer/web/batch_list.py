"""Define the route that lists batches."""

from pydantic import TypeAdapter

from producer.contract.batches import BatchCursor
from producer.contract.headers import label
from producer.web.access import CallerOfRoute
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
    caller: CallerOfRoute,
    limit: BatchLimit = 20,
    cursor: BatchListCursor = None,
    state: StateOfBatch = None,
    kind: KindOfBatch = None,
    submitter: SubmitterOfBatch = None,
) -> BatchList:
    """Return a page of the list of batches, newest first, of all submitters.

    A batch is listed once a part of it was applied or became a dead letter. Without the scope
    `lookup`, only batches of the same caller are listed.
    """
    if not caller.may_look_up:
        if submitter not in (None, caller.name):
            return BatchList(batches=(), next=None)
        submitter = label(caller.name)
    page = await client.batch_page(
        limit,
        cursor=None if cursor is None else read_cursor(_PLACE, cursor),
        state=state,
        kind=kind,
        submitter=submitter,
    )
    end = None if page.next is None else write_cursor(_PLACE, page.next)
    return BatchList(batches=page.batches, next=end)
