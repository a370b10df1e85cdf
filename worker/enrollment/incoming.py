"""Read requests as they came: the record, its id, and the parsed request or its problems."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import fingerprint_of
from producer.contract.explain import explain
from producer.schemas import MAX_REQUEST_ID, RequestId, StudentEnrollmentRequest
from worker.enrollment.values import Problems

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


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

    def fingerprint(self) -> int:
        """Return a number that is equal for requests that ask for the same thing."""
        request = self.request
        if request is None:
            return fingerprint_of(json.dumps(self.record, sort_keys=True, default=repr))
        return fingerprint_of(json.dumps([request.student_id, request.course_ids, request.atomic]))


def read_request(task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> IncomingRequest:
    """Read a request from a task's arguments; without an id of its own it gets the task's id."""
    record = args[0] if len(args) == 1 and not kwargs else {"args": args, "kwargs": kwargs}
    own_id = task_id[:MAX_REQUEST_ID]
    try:
        request = StudentEnrollmentRequest.model_validate(record)
    except ValidationError as error:
        return IncomingRequest(given_id(record) or own_id, record, None, explain(error))
    return IncomingRequest(request.request_id or own_id, record, request)


def given_id(record: Any) -> str | None:
    """Return a request's own id, even if the record breaks the contract elsewhere."""
    return readable_id(record.get("request_id")) if isinstance(record, dict) else None


def readable_id(value: object) -> str | None:
    """Return the value if it is a valid id of a request, task or batch; None if it is not."""
    try:
        return _REQUEST_ID.validate_python(value)
    except ValidationError:
        return None
