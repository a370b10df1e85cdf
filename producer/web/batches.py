"""Answer the HTTP calls about batches: uploads, status, refused lines and progress."""

import uuid
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse

from producer.aio.client import AsyncEnrollmentClient
from producer.contract.batches import BatchStatus
from producer.files.refused_lines import RefusedForm
from producer.web.access import CallerOfRoute, Submitter, check_scope, has_scope
from producer.web.bodies import AcceptedBatch
from producer.web.choices import FileChoices
from producer.web.disclosing import Disclosing, Disclosures
from producer.web.downloads import refused_file
from producer.web.lookups import known_form
from producer.web.owners import has_refused_lines, may_see
from producer.web.packages import opened_package
from producer.web.parameters import (
    AcceptedType,
    BatchIdInPath,
    FormOfRefused,
    FrontServices,
    OwnBatchId,
    check_addressable,
)
from producer.web.plan_parameters import PlanChoices
from producer.web.problems import Refused
from producer.web.tokens import Scope
from producer.web.uploads import received


async def post_batch(
    request: Request,
    response: Response,
    services: FrontServices,
    submitter: Submitter,
    caller: CallerOfRoute,
    choices: FileChoices,
    plan: PlanChoices,
    batch_id: OwnBatchId = None,
) -> AcceptedBatch:
    """Submit a CSV or JSON Lines file as a batch, as the body itself or as a multipart upload.

    The file may be compressed with gzip, or be in a zip archive. An archive with the files of an
    export is submitted as a batch for each of them, rosters first; their ids begin with `batch_id`.
    The file is published once all of it has arrived. For drops, the token also needs the
    scope `drop`: with `drop`, and for a file with `drop` in its column `action`, with
    `drop_course_ids`, or with enrollments that another system marks as ended. So does a `snapshot`
    that is not only a report. With `plan`, `snapshot` or `hold`, the submission is planned before
    anything is applied: follow `plan_url` of the response.
    """
    if choices.drop:
        check_scope(request, Scope.DROP, " for drop=true")
    check_addressable("batch_id", batch_id)
    if plan.snapshot is not None and not plan.dry_run:
        check_scope(request, Scope.DROP, " for a snapshot")
    has_own_id, batch_id = batch_id is not None, batch_id or uuid.uuid4().hex
    options: dict[str, Any] = {"plan": plan, "resume": has_own_id}
    options["may_drop"] = has_scope(request, Scope.DROP)
    turn = services.uploads.turn_of(submitter)
    async with received(request) as upload, opened_package(upload, choices, turn) as package:
        ids = [batch_id] if package is None else package.batch_ids(batch_id)
        for own_id in ids:
            await services.owners.claim_batch(caller, own_id, has_own_id=has_own_id)
        if package is None:
            batch, understood = await services.uploads.submit(
                upload, choices, batch_id, submitter, **options
            )
            accepted = AcceptedBatch.of(batch, *understood)
        else:
            batches, understood = await services.uploads.submit_package(
                upload, package, batch_id, submitter, choices=choices, **options
            )
            accepted = AcceptedBatch.of_package(batches, *understood)
    response.headers["Location"] = accepted.url
    return accepted


async def _visible_batch(
    batch_id: BatchIdInPath, services: FrontServices, caller: CallerOfRoute
) -> BatchStatus:
    """Return the status of a batch that the caller may see. Raises Refused."""
    status = await services.owners.find_batch(caller, known_form(batch_id, "unknown_batch"))
    if status is None:
        raise Refused(404, "unknown_batch", "No batch with this id is known. Check the id.")
    return status


VisibleBatch = Annotated[BatchStatus, Depends(_visible_batch)]


async def get_batch(status: VisibleBatch, disclosures: Disclosures) -> BatchStatus:
    """Return the status of a batch: its state, counts, and refusals by cause.

    Without the scope `lookup`, only batches of the same caller are known.
    """
    if status.refusals:
        await record_refusals("batch", status, disclosures)
    return status


async def with_planned_refusals(client: AsyncEnrollmentClient, status: BatchStatus) -> BatchStatus:
    """Return the status of a batch with what its plan would refuse, until a part of it is applied.

    Raises NoWorkerAnswered.
    """
    if status.plan_id is None or status.chunks_applied:
        return status
    plan = await client.plan(status.plan_id)
    own = next((each for each in plan.batches if each.batch_id == status.batch_id), None)
    if own is None:
        return status
    return status.model_copy(update={"books": own.books, "refusals": own.refusals})


async def record_refusals(what: str, status: BatchStatus, disclosures: Disclosing) -> None:
    """Record that refusals are about to be shown, with ids and perhaps the refused lines."""
    await disclosures.record(what, batch=status.batch_id, refusals=status.books.rejected)


async def get_errors(
    status: VisibleBatch,
    services: FrontServices,
    caller: CallerOfRoute,
    disclosures: Disclosures,
    accept: AcceptedType = "application/json",
    form: FormOfRefused = RefusedForm.SUBMISSION,
) -> Any:
    """Return the refusals by cause; with `Accept: text/csv`, a file of the refused lines.

    Without the scope `lookup`, only batches of the same caller are known.
    """
    status = await with_planned_refusals(services.client, status)
    await record_refusals("refusals", status, disclosures)
    has_lines = has_refused_lines(caller, status)
    refusals = services.blocking.refusals(status.batch_id) if has_lines else iter(())
    file = await refused_file(status, refusals, accept, form, services.downloads)
    return file or list(status.refusals)


async def get_events(
    status: VisibleBatch, services: FrontServices, caller: CallerOfRoute, disclosures: Disclosures
) -> StreamingResponse:
    """Send the status of a batch as server-sent events until it is done.

    Without the scope `lookup`, only batches of the same caller are known.
    """
    is_recorded = False

    async def admit(news: BatchStatus) -> bool:
        """Record the first refusals that are sent; return whether the status may be sent."""
        nonlocal is_recorded
        if news.refusals and not is_recorded:
            await record_refusals("events", news, disclosures)
            is_recorded = True
        return may_see(caller, news)

    await admit(status)  # Afterwards no error could be reported.
    events = services.feeds.events(status, admit)
    return StreamingResponse(events, media_type="text/event-stream")
