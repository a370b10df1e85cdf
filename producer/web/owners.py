"""Decide what a caller without the scope `lookup` may see: what its own token has submitted.

The name of the token that submitted a request or batch is stored in Redis, for 30 days. A worker
knows the submitter of a batch as soon as a part of it is applied.
"""

import hashlib
import json
from contextlib import suppress
from typing import Final, NamedTuple, Self

from producer.aio.client import AsyncEnrollmentClient
from producer.aio.connection import LookupKind
from producer.aio.submitter import connection_of
from producer.contract.batches import BatchState, BatchStatus
from producer.contract.headers import label
from producer.contract.keys import Owned
from producer.contract.plans import PlanState, PlanStatus
from producer.contract.routing import TaskName
from producer.errors import NoWorkerAnswered
from producer.schemas import (
    Code,
    RequestState,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)
from producer.web.callers import Caller
from producer.web.problems import Refused

_BATCH: Final = LookupKind(TaskName.BATCH, (("refusals", True),))


class RequestOwner(NamedTuple):
    """The token that submitted a request, and a digest of the student that the request names."""

    name: str
    student: str

    @classmethod
    def of(cls, caller: Caller, request: StudentEnrollmentRequest) -> Self:
        """Return what is to be stored about a request."""
        return cls(str(caller.name), _digest(request.student_id))

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Return the owner in a stored text; None without a text."""
        name, _, student = (text or "").partition(" ")
        return cls(name, student) if student else None

    def covers(self, result: StudentEnrollmentResponse) -> bool:
        """Return whether a result can be that of the request.

        Another client may have used the id, over the queue, before the request arrived there.
        """
        return self.student == _digest(result.student_id)


def _digest(student: int | str | None) -> str:
    return hashlib.sha256(json.dumps(student).encode()).hexdigest()


class Owners:
    """What the tokens of one deployment have submitted. Its methods raise BrokerUnavailable."""

    def __init__(self, client: AsyncEnrollmentClient) -> None:
        self._client = client
        self._connection = connection_of(client)

    # --- requests -------------------------------------------------------------------------------

    async def claim_request(
        self, caller: Caller, request: StudentEnrollmentRequest, *, has_own_id: bool
    ) -> tuple[RequestOwner | None, bool]:
        """Store who is about to submit a request, which has an id.

        Return whose the request is, or None if the caller may see it anyway, and whether it may be
        a repeat. Raises Refused if the caller may not see it, and the id belongs to another one.
        """
        request_id = str(request.request_id)
        own = RequestOwner.of(caller, request)
        if caller.may_look_up:
            if caller.is_remembered:
                await self._connection.owner(Owned.REQUEST, request_id, str.join(" ", own))
            return None, has_own_id
        is_repeat = False
        if has_own_id:
            is_repeat = await self._connection.owner(Owned.REQUEST, request_id) is not None
            if not is_repeat and await self._is_known(request_id):
                raise id_reused()
        stored = await self._connection.owner(Owned.REQUEST, request_id, str.join(" ", own))
        owner = RequestOwner.parse(stored)
        if owner is None or owner.name != caller.name:
            raise id_reused()
        return owner, is_repeat

    async def _is_known(self, request_id: str) -> bool:
        with suppress(NoWorkerAnswered):
            return (await self._client.status(request_id)).state is not RequestState.UNKNOWN
        return False

    async def find_request(self, caller: Caller, request_id: str) -> RequestOwner | None:
        """Return the owner of a request if that is the caller."""
        stored = await self._connection.owner(Owned.REQUEST, request_id)
        owner = RequestOwner.parse(stored)
        return owner if owner is not None and owner.name == caller.name else None

    # --- batches --------------------------------------------------------------------------------

    async def claim_batch(self, caller: Caller, batch_id: str, *, has_own_id: bool) -> None:
        """Store who is about to submit a batch.

        Raises Refused if the caller may not see it, and the id belongs to another one.
        """
        if caller.may_look_up:
            if caller.is_remembered:
                await self._connection.owner(Owned.BATCH, batch_id, str(caller.name))
            return
        is_known = has_own_id and await self._connection.owner(Owned.BATCH, batch_id) is not None
        if has_own_id and not is_known:
            with suppress(NoWorkerAnswered):
                status = await self._ask_worker(batch_id)
                if status.state is not BatchState.UNKNOWN and not _is_of(caller, status):
                    raise batch_id_reused()
        if await self._connection.owner(Owned.BATCH, batch_id, str(caller.name)) != caller.name:
            raise batch_id_reused()

    async def find_batch(self, caller: Caller, batch_id: str) -> BatchStatus | None:
        """Return the status of a batch; None if the caller has submitted no batch with this id.

        A worker is asked about all batches that are not known to be the caller's, so that it takes
        equally long whether there is one or not.
        """
        if caller.may_look_up:
            status = await self._client.batch(batch_id)
            return None if status.state is BatchState.UNKNOWN else status
        is_claimed = await self._connection.owner(Owned.BATCH, batch_id) == caller.name
        status = await (self._client.batch if is_claimed else self._ask_worker)(batch_id)
        is_own = is_claimed if is_undecided(status) else _is_of(caller, status)
        return status if is_own and status.state is not BatchState.UNKNOWN else None

    async def find_plan(self, caller: Caller, plan_id: str) -> PlanStatus | None:
        """Return the status of a plan; None if the caller has submitted no plan with this id.

        A worker knows whose a plan is as soon as a part of it has arrived. Before that, it belongs
        to the caller who has claimed the batch with its id.
        """
        status = await self._client.plan(plan_id)
        if status.state is PlanState.UNKNOWN:
            return None
        if caller.may_look_up:
            return status
        if status.submitter is None and status.state is PlanState.STAGED:
            is_own = await self._connection.owner(Owned.BATCH, plan_id) == caller.name
        else:
            is_own = status.submitter is not None and status.submitter == label(caller.name)
        return status if is_own else None

    async def _ask_worker(self, batch_id: str) -> BatchStatus:
        seconds = self._client.timeout
        status: BatchStatus = await self._connection.ask_worker(_BATCH, batch_id, seconds)
        return status


def may_see(caller: Caller, status: BatchStatus) -> bool:
    """Return whether a caller who was shown a batch may be shown its later status, too."""
    return caller.may_look_up or is_undecided(status) or _is_of(caller, status)


def is_undecided(status: BatchStatus) -> bool:
    """Return whether no part of a batch was applied, so that no worker knows whose it is."""
    return not status.chunks_applied and status.submitter is None


def has_refused_lines(caller: Caller, status: BatchStatus) -> bool:
    """Return whether there may be refused lines that a caller may see, who was shown the batch.

    A batch has none before a part of it is applied or planned; then a worker knows whose it is.
    """
    is_planned = status.plan_id is not None and caller.may_look_up
    return is_planned or not is_undecided(status)


def _is_of(caller: Caller, status: BatchStatus) -> bool:
    return status.submitter is not None and status.submitter == label(caller.name)


def id_reused() -> Refused:
    """Return the refusal of a request whose id belongs to a request that the caller may not see."""
    detail = "The request id belongs to another request; send this one again under a new id."
    return Refused(409, Code.REQUEST_ID_REUSED, detail)


def batch_id_reused() -> Refused:
    """Return the refusal of a batch whose id belongs to a batch that the caller may not see."""
    detail = "The batch id belongs to another batch; send this one again under a new batch_id."
    return Refused(409, "batch_conflict", detail)
