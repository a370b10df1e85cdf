"""Let a route record what its response discloses, before the response is sent."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request

from producer.publishing.connection import CALL_ID
from producer.schemas import StudentEnrollmentResponse
from producer.web.audit import AuditLog
from producer.web.audit_files import Disclosure
from producer.web.callers import Caller


class Disclosing:
    """What one call discloses."""

    def __init__(self, audit: AuditLog | None, caller: Caller) -> None:
        self._audit = audit
        self._caller = caller

    async def check(self) -> None:
        """Raise Refused if nothing can be recorded, before a call has an effect."""
        if self._audit is not None:
            await self._audit.check()

    async def record(
        self, what: str, whose: Sequence[int | str] = (), status: int = 200, **more: Any
    ) -> None:
        """Record that the caller is about to be shown something. Raises Refused if it cannot be.

        Does nothing if no folder for the audit was named.
        """
        if self._audit is not None:
            line = Disclosure(self._caller.name, CALL_ID.get(), what, whose, status, more)
            await self._audit.record(line)

    async def record_result(
        self, what: str, result: StudentEnrollmentResponse, status: int = 200
    ) -> None:
        """Record that the caller is about to be shown the result of a request."""
        whose = () if result.student_id is None else (result.student_id,)
        await self.record(what, whose, status, request=result.request_id)


async def disclosures_of(request: Request) -> Disclosing:
    """Return what records the disclosures of a call."""
    return Disclosing(request.app.state.services.audit, request.state.caller)


Disclosures = Annotated[Disclosing, Depends(disclosures_of)]
