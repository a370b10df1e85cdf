"""Check the arguments of lookups before they are sent, so that a mistake costs no round trip."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import Strict, ValidationError

from producer.contract.batches import BatchCursor, BatchState
from producer.contract.explain import explain
from producer.contract.lookups import (
    Identifiers,
    Limit,
    Number,
    PairCursor,
    RollsCursor,
    StudentCursor,
    SubmitterName,
)
from producer.contract.plans import Decision, DecisionMessage
from producer.contract.routing import TaskName
from producer.contract.searching import SearchText
from producer.errors import InvalidRequest
from producer.fields import Identifier, Moment, RequestId, StoredId, show_moment
from producer.publishing.batches import SubmittedBatch
from producer.publishing.requests import refuse_single
from producer.schemas import Code, ContractModel, Kind

_IDS_OF: dict[TaskName, str] = {
    TaskName.STATUS: "request_ids",
    TaskName.BATCH: "batch_ids",
    TaskName.RESULTS: "students",
    TaskName.STUDENT: "students",
}
"""The name of the ids that a lookup takes."""

_ID_OF: dict[TaskName, str] = {
    TaskName.STATUS: "request_id",
    TaskName.BATCH: "batch_id",
    TaskName.RESULTS: "student",
    TaskName.STUDENT: "student",
}
"""The name of one of them: who asks about one id has not written a list."""


class _Arguments(ContractModel):
    request_ids: tuple[StoredId, ...] = ()
    batch_ids: tuple[StoredId, ...] = ()
    request_id: StoredId = "-"
    student: Identifier = 1
    plan_id: RequestId = "-"
    students: tuple[Identifier, ...] = ()
    batch_id: StoredId = "-"
    limit: Limit = 1
    before: tuple[Annotated[datetime, Strict()], str] | None = None


class _HistoryArguments(ContractModel):
    student: Identifier
    course: Identifier | None
    limit: Limit
    before: Moment | None


class _RollArguments(ContractModel):
    course: Identifier
    at: Moment | None
    limit: Limit = 1
    after: StudentCursor = 0


class _RollsArguments(ContractModel):
    courses: Identifiers
    after: RollsCursor | None


class _RefusalArguments(ContractModel):
    batch_id: StoredId
    line: Number
    numbers: Number
    limit: Limit
    code: Code | None


class _DropsArguments(ContractModel):
    plan_id: RequestId
    after: PairCursor | None
    limit: Limit


class _SearchArguments(ContractModel):
    text: SearchText
    limit: Limit


class _PageArguments(ContractModel):
    cursor: BatchCursor | None
    state: BatchState | None
    kind: Kind | None
    submitter: SubmitterName | None


ArgumentsType = TypeVar("ArgumentsType", bound=ContractModel)


def check_arguments(**given: Any) -> None:
    """Raise InvalidRequest unless every argument of a lookup has the form of the contract."""
    _checked(_Arguments, given)


def _checked(model: type[ArgumentsType], given: dict[str, Any]) -> ArgumentsType:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(explain(error, given)) from None


def history_options(
    student: int | str, course: int | str | None, limit: int, before: datetime | str | None
) -> dict[str, Any]:
    """Return the options of a lookup of a history, as they are sent. Raises InvalidRequest."""
    given = {"student": student, "course": course, "limit": limit, "before": before}
    checked = _checked(_HistoryArguments, given)
    until = {} if checked.before is None else {"before": show_moment(checked.before)}
    return {"course": course, "limit": limit, **until}


def roll_options(
    course: int | str, at: datetime | str | None, limit: int, after: int
) -> dict[str, Any]:
    """Return the options of a lookup of a roll, as they are sent. Raises InvalidRequest."""
    checked = _checked(_RollArguments, {"course": course, "at": at, "limit": limit, "after": after})
    moment = {} if checked.at is None else {"at": show_moment(checked.at)}
    return {**moment, "limit": limit, "after": after}


def rolls_arguments(
    courses: Iterable[int | str], after: tuple[int, int] | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a lookup of rolls, as they are sent. Raises InvalidRequest."""
    refuse_single("courses", courses)
    given = {"courses": list(courses), "after": after}
    checked = _checked(_RollsArguments, given)
    return [checked.courses], {} if after is None else {"after": list(after)}


def batch_page_options(
    cursor: tuple[datetime, str] | None,
    state: BatchState | str | None,
    kind: Kind | str | None,
    submitter: str | None,
) -> dict[str, Any]:
    """Return the options of a lookup of a page of batches, as they are sent. Raises InvalidRequest.

    An option that selects nothing is not sent.
    """
    given = {"cursor": cursor, "state": state, "kind": kind, "submitter": submitter}
    checked = _checked(_PageArguments, given).model_dump(mode="json", exclude_none=True)
    return {"paged": True, **checked}


def refusal_page_arguments(
    batch_id: str, after: tuple[int, int], limit: int, code: Code | str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a lookup of a page of refusals, as sent. Raises InvalidRequest."""
    line, last = after
    given = {"batch_id": batch_id, "line": line, "numbers": last, "limit": limit, "code": code}
    checked = _checked(_RefusalArguments, given)
    cause = {} if checked.code is None else {"code": checked.code.value}
    return [batch_id, line, last, limit], {"whole": True, **cause}


def drops_arguments(
    plan_id: str, after: tuple[int, int] | None, limit: int
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a lookup of planned drops, as sent. Raises InvalidRequest."""
    given = {"plan_id": plan_id, "after": after, "limit": limit}
    checked = _checked(_DropsArguments, given)
    cursor = {} if checked.after is None else {"after": list(checked.after)}
    return [plan_id], {**cursor, "limit": limit}


def decision_arguments(plan_id: str, decision: Decision | str, digest: str) -> list[Any]:
    """Return the arguments of a decision about a plan, as they are sent. Raises InvalidRequest."""
    given: dict[str, Any] = {"plan_id": plan_id, "decision": decision, "digest": digest}
    if isinstance(given["decision"], bytes | bytearray):  # They would be read as text, and count.
        given["decision"] = repr(decision)
    return [_checked(DecisionMessage, given).model_dump(mode="json")]


def search_arguments(text: str, limit: int) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a search, as they are sent. Raises InvalidRequest."""
    checked = _checked(_SearchArguments, {"text": text, "limit": limit})
    return [checked.text], {"limit": limit}


def check_ids(task: TaskName, ids: Iterable[Any]) -> list[Any]:
    """Return the ids as a list, which can be read more than once.

    Raises InvalidRequest for ids that nothing can have, and for one in place of several.
    """
    refuse_single("ids", ids)
    listed = list(ids)
    if len(listed) == 1:
        check_arguments(**{_ID_OF[task]: listed[0]})
    else:
        check_arguments(**{_IDS_OF[task]: listed})
    return listed


def check_batch(batch: SubmittedBatch | str) -> None:
    """Raise InvalidRequest unless this is a valid batch id, or what a submission returned."""
    if not isinstance(batch, SubmittedBatch):
        check_arguments(batch_id=batch)
