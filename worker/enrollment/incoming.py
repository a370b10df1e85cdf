"""Read requests as they came: the record, its id, and the parsed request or its problems."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import fingerprint_of
from producer.contract.explain import MAX_PROBLEMS, parse_record
from producer.fields import MAX_REQUEST_ID, Identifier, RequestId, is_line_request_id
from producer.schemas import Code, EnrollmentProblem, StudentEnrollmentRequest
from worker.data_sets.values import Owner
from worker.enrollment.values import Problems

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)
_IDENTIFIER: TypeAdapter[int | str] = TypeAdapter(Identifier)

_TASK_ID_OF_A_LINE: Final = EnrollmentProblem(
    code=Code.INVALID_REQUEST,
    message="the request has no request_id, and the task id that would take its place ends in"
    " :NUMBER:NUMBER, as the ids of the lines of batches do; give the request an id of its own",
    field="request_id",
)


class IncomingRequest(NamedTuple):
    """A request as it came: the record, and the parsed request if the record meets the contract.

    A request with `problems` is refused, whatever it asks for. `lines` are its lines in the
    submitted file; empty if it did not come from a file.
    """

    request_id: str
    record: Any
    request: StudentEnrollmentRequest | None
    problems: Problems = ()
    lines: Sequence[int] = ()
    has_own_id: bool = True
    """False if the id was made from a chunk's number."""
    moment: datetime | None = None
    """When it counts: first as its message says, which is not trusted, later as it is decided."""
    is_dated: bool = False
    """True if the moment is that of a batch or of a dead letter, which was checked before."""
    batch_id: str | None = None
    """The batch that it came with, where requests of several batches are decided together."""
    owner: Owner | None = None
    """What owns the enrollments that it opens; None for a request without a data set."""

    def fingerprint(self) -> int:
        """Return a number that is equal for requests that ask for the same thing."""
        request = self.request
        if request is None:
            return fingerprint_of(json.dumps(self.record, sort_keys=True, default=repr))
        asked: list[Any] = [request.student_id, request.course_ids, request.atomic]
        if request.as_of is not None:
            asked.append(request.as_of.isoformat())
        # The fingerprint of a request without these fields is that of an older version.
        if request.drop_course_ids:
            asked.append({"drop_course_ids": request.drop_course_ids})
        if request.reason is not None:
            asked.append({"reason": request.reason})
        return fingerprint_of(json.dumps(asked))


def may_drop(incoming: IncomingRequest) -> bool:
    """Return whether a request may drop something."""
    return incoming.request is not None and bool(incoming.request.drop_course_ids)


def read_request(
    task_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    moment: datetime | None = None,
) -> IncomingRequest:
    """Read a request from a task's arguments; without an id of its own it gets the task's id.

    It is refused if that id belongs to a line of a batch, and its result gets another id. `moment`
    is that in the header of its message.
    """
    record = args[0] if len(args) == 1 and not kwargs else {"args": args, "kwargs": kwargs}
    incoming = read_record(task_id[:MAX_REQUEST_ID], record)._replace(moment=moment)
    if not is_line_request_id(incoming.request_id):
        return incoming
    return incoming._replace(
        request_id=uuid5(NAMESPACE_OID, incoming.request_id).hex,
        problems=(*incoming.problems[: MAX_PROBLEMS - 1], _TASK_ID_OF_A_LINE),
    )


def read_record(fallback_id: str, record: Any) -> IncomingRequest:
    """Read a request; without an id of its own it gets `fallback_id`."""
    request, problems = parse_record(StudentEnrollmentRequest, record)
    own_id = request.request_id if request else given_id(record)
    return IncomingRequest(own_id or fallback_id, record, request, problems)


def given_id(record: Any) -> str | None:
    """Return a request's own id, even if the record breaks the contract elsewhere."""
    own_id = readable_id(record.get("request_id")) if isinstance(record, dict) else None
    return None if own_id is None or is_line_request_id(own_id) else own_id


def readable_id(value: object) -> str | None:
    """Return the value if it is a valid id of a request, task or batch; None if it is not."""
    try:
        return _REQUEST_ID.validate_python(value)
    except ValidationError:
        return None


def readable_student(record: object) -> int | str | None:
    """Return the student of an invalid request, so that its result can be found by student."""
    try:
        student = record.get("student_id") if isinstance(record, Mapping) else None
        return _IDENTIFIER.validate_python(student)
    except ValidationError:
        return None
