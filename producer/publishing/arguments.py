"""Check the arguments of lookups before they are sent, so that a mistake costs no round trip."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import Strict, ValidationError

from producer.contract.explain import explain
from producer.contract.lookups import Limit
from producer.contract.routing import TaskName
from producer.errors import InvalidRequest
from producer.publishing.batches import SubmittedBatch
from producer.publishing.requests import refuse_single
from producer.schemas import ContractModel, Identifier, RequestId

_IDS_OF: dict[TaskName, str] = {
    TaskName.STATUS: "request_ids",
    TaskName.BATCH: "batch_ids",
    TaskName.RESULTS: "students",
    TaskName.STUDENT: "students",
}
"""The name of the ids that a lookup takes."""


class _Arguments(ContractModel):
    request_ids: tuple[RequestId, ...] = ()
    batch_ids: tuple[RequestId, ...] = ()
    students: tuple[Identifier, ...] = ()
    batch_id: RequestId = "-"
    limit: Limit = 1
    before: tuple[Annotated[datetime, Strict()], str] | None = None


def check_arguments(**given: Any) -> None:
    """Raise InvalidRequest unless every argument of a lookup has the form of the contract."""
    try:
        _Arguments.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(explain(error, given)) from None


def check_ids(task: TaskName, ids: Sequence[Any]) -> None:
    """Raise InvalidRequest for ids that nothing can have, and for one in place of several."""
    refuse_single("ids", ids)
    check_arguments(**{_IDS_OF[task]: ids})


def check_batch(batch: SubmittedBatch | str) -> None:
    """Raise InvalidRequest unless this is a valid batch id, or what a submission returned."""
    if not isinstance(batch, SubmittedBatch):
        check_arguments(batch_id=batch)
