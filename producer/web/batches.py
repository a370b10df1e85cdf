"""Answer the HTTP calls about batches: uploads, status, refused lines and progress."""

from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from producer.aio.client import AsyncEnrollmentClient
from producer.contract.batches import BatchState, BatchStatus
from producer.files.reader import Choices
from producer.files.refused_lines import RefusedForm
from producer.web.access import Submitter, check_scope, has_scope
from producer.web.bodies import AcceptedBatch
from producer.web.downloads import refused_file
from producer.web.lookups import known_form
from producer.web.parameters import (
    AcceptedType,
    AllDrops,
    BatchIdInPath,
    BatchKind,
    Client,
    ColumnMaps,
    FormOfRefused,
    FrontServices,
    OwnBatchId,
    TextEncoding,
    column_templates,
)
from producer.web.problems import Refused
from producer.web.tokens import Scope
from producer.web.uploads import received


async def post_batch(
    request: Request,
    response: Response,
    services: FrontServices,
    submitter: Submitter,
    kind: BatchKind = None,
    batch_id: OwnBatchId = None,
    maps: ColumnMaps = None,
    encoding: TextEncoding = None,
    *,
    drop: AllDrops = False,
) -> AcceptedBatch:
    """Submit a CSV or JSON Lines file as a batch, as the body itself or as a multipart upload.

    The file may be compressed with gzip, or be the only one in a zip archive. It is published once
    all of it has arrived. For drops, the token also needs the scope `drop`: with `drop`, and for a
    file with `drop` in its column `action` or with `drop_course_ids`.
    """
    if drop:
        check_scope(request, Scope.DROP, " for drop=true")
    choices = Choices(kind, column_templates(maps), encoding, drop)
    may_drop = has_scope(request, Scope.DROP)
    async with received(request) as upload:
        batch, notices = await services.uploads.submit(
            upload, choices, batch_id, submitter, may_drop=may_drop
        )
    accepted = AcceptedBatch.of(batch, notices)
    response.headers["Location"] = accepted.url
    return accepted


async def get_batch(batch_id: BatchIdInPath, client: Client) -> BatchStatus:
    """Return the status of a batch: its state, counts, and refusals by cause."""
    return await _known_batch(client, batch_id)


async def _known_batch(client: AsyncEnrollmentClient, batch_id: str) -> BatchStatus:
    status = await client.batch(known_form(batch_id))
    if status.state is BatchState.UNKNOWN:
        raise Refused(404, "unknown_batch", "No batch with this id is known. Check the id.")
    return status


async def get_errors(
    batch_id: BatchIdInPath,
    services: FrontServices,
    accept: AcceptedType = "application/json",
    form: FormOfRefused = RefusedForm.SUBMISSION,
) -> Any:
    """Return the refusals by cause; with `Accept: text/csv`, a file of the refused lines."""
    status = await _known_batch(services.client, batch_id)
    refusals = services.blocking.refusals(status.batch_id)
    file = await refused_file(status, refusals, accept, form, services.downloads)
    return file or list(status.refusals)


async def get_events(batch_id: BatchIdInPath, services: FrontServices) -> StreamingResponse:
    """Send the status of a batch as server-sent events until it is done."""
    first = await _known_batch(services.client, batch_id)
    return StreamingResponse(services.feeds.events(first), media_type="text/event-stream")
