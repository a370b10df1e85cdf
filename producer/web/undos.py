"""Answer the HTTP call that undoes a batch, or shows what that would change."""

from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request, Response

from producer.contract.plan_requests import PlanPurpose
from producer.contract.undos import BatchUndo
from producer.errors import UndoRefused
from producer.web.access import has_scope
from producer.web.disclosing import Disclosing, Disclosures
from producer.web.lookups import known_form
from producer.web.parameters import BatchIdInPath, FrontServices
from producer.web.problems import Refused
from producer.web.tokens import Scope

UndoPlan = Annotated[
    PlanPurpose,
    Query(description="`report` only returns what the undo would change; nothing is changed."),
]


async def undo(
    request: Request,
    response: Response,
    batch_id: BatchIdInPath,
    services: FrontServices,
    disclosures: Disclosures,
    plan: UndoPlan = PlanPurpose.APPLY,
) -> BatchUndo:
    """Undo a batch of enrollments: drop what it enrolled, and enroll again what it dropped.

    The undo counts right after the batch, so every later request wins. It is a batch of its own,
    which the header `Location` names. Its `state` is `running` if only a part of a large batch is
    undone yet. A repeat does no harm, and returns the present state. With `plan=report`, the
    status is 200, and the body says what would change; students are named only if the token also
    has the scope `lookup`.
    """
    await disclosures.check()
    is_report = plan is PlanPurpose.REPORT
    try:
        own_id = known_form(batch_id, "unknown_batch")
        status = await services.client.undo(own_id, dry_run=is_report)
    except UndoRefused as error:
        if error.is_unknown:
            raise Refused(404, "unknown_batch", str(error)) from None
        raise
    if is_report:
        response.status_code = 200
    else:
        response.headers["Location"] = f"/batches/{quote(status.undo_id, safe='')}"
    if not has_scope(request, Scope.LOOKUP):
        return status.model_copy(update={"changes": (), "left": ()})
    await _record(status, disclosures)
    return status


async def _record(status: BatchUndo, disclosures: Disclosing) -> None:
    """Record that students are about to be shown."""
    shown = [change.student_sis_id for change in status.changes]
    shown += [left.student_sis_id for left in status.left]
    if shown:
        await disclosures.record("undo", list(dict.fromkeys(shown)), batch=status.batch_id)
