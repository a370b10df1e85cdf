"""Check what a caller passes before it is published, and whether it was lost afterwards."""

import uuid
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from producer.contract.explain import parse_record
from producer.errors import InvalidRequest, SubmissionLost
from producer.publishing.batches import SubmittedBatch
from producer.publishing.course_lists import with_course_lists
from producer.schemas import (
    Code,
    ContractModel,
    EnrollmentProblem,
    Kind,
    RequestState,
    RequestStatus,
    StudentEnrollmentRequest,
)

_LOST_WITH_MARK = (
    "Redis lost its data, and with it the request if it was still queued. Submit it again under"
    " the same id."
)


def refuse_single(name: str, values: object) -> None:
    """Raise InvalidRequest if one record or id, or none at all, was passed in place of several.

    Its characters or the names of its fields would be taken for records or ids.
    """
    if isinstance(values, str | bytes | Mapping | ContractModel) or not (
        isinstance(values, Iterable | AsyncIterable)
    ):
        message = f"{name}: must be an iterable, such as a list; put a single one into a list"
        problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field=name)
        raise InvalidRequest((problem,))


class IdentifiedRequest(NamedTuple):
    """A valid request with an id."""

    request: StudentEnrollmentRequest
    id: str
    has_own_id: bool
    """Whether it came with this id, and so may have been submitted before."""


def with_id(request: StudentEnrollmentRequest | Mapping[str, Any]) -> IdentifiedRequest:
    """Return the request with its id, a new one if it has none. Raises InvalidRequest.

    With an id of its own, a request that is delivered twice still takes effect only once.
    """
    # A model may hold what its own check would refuse, if it was copied with changes.
    fields = request.model_dump() if isinstance(request, StudentEnrollmentRequest) else request
    if isinstance(fields, Mapping):
        fields = with_course_lists(fields)
    checked, problems = parse_record(StudentEnrollmentRequest, fields)
    if checked is None:
        raise InvalidRequest(problems)
    request_id = checked.request_id or uuid.uuid4().hex
    identified = checked.model_copy(update={"request_id": request_id})
    return IdentifiedRequest(identified, request_id, checked.request_id is not None)


def new_batch(
    kind: Kind | str, batch_id: str | None, moment: datetime | None = None
) -> SubmittedBatch:
    """Return a batch of which nothing is published, with a new id if none is given.

    Raises InvalidRequest.
    """
    own_id = uuid.uuid4().hex if batch_id is None else batch_id
    given = {"batch_id": own_id, "kind": kind, "moment": moment}
    batch, problems = parse_record(SubmittedBatch, given)
    if batch is None:
        raise InvalidRequest(problems)
    return batch


def check_not_lost(status: RequestStatus) -> None:
    """Raise SubmissionLost if this is the status of a request that was published and is lost."""
    # A mark lasts for days, so a request without one was lost together with its mark.
    if status.state is RequestState.UNKNOWN:
        advice = status.advice or _LOST_WITH_MARK
        raise SubmissionLost(f"Request {status.request_id}: {advice}")
