"""Answer questions about the health of the HTTP front."""

import asyncio
import logging
import time
from typing import Final

from fastapi import Request

from producer.aio.client import AsyncEnrollmentClient
from producer.errors import BrokerUnavailable, EnrollmentError
from producer.web.audit import AuditLog
from producer.web.bodies import Health
from producer.web.problems import Refused

log = logging.getLogger(__name__)

FRESH: Final = 2.0
"""Seconds for which an answer counts, however often somebody asks."""

PATIENCE: Final = 3.0
"""Seconds for which broker and worker are waited for."""


async def live() -> Health:
    """Report that this process is running."""
    return Health(status="live")


async def ready(request: Request) -> Health:
    """Report that the broker and a worker answer, and disclosures are recorded; else 503."""
    readiness: Readiness = request.app.state.services.readiness
    await readiness.check()
    return Health(status="ready")


class Readiness:
    """Whether calls can be served, asked at most once at a time and every `FRESH`.

    The broker and a worker must answer, and disclosures be recorded if that was asked for.
    """

    def __init__(self, client: AsyncEnrollmentClient, audit: AuditLog | None) -> None:
        self._client = client
        self._audit = audit
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[Refused | None] | None = None

    async def check(self) -> None:
        """Raise Refused if one of these fails; addresses are only logged."""
        if self._asking is None or (
            self._asking.done() and time.monotonic() - self._asked_at > FRESH
        ):
            self._asking = asyncio.create_task(self._ask())
        refusal = await asyncio.shield(self._asking)
        if refusal is not None:
            raise refusal

    async def _ask(self) -> Refused | None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._client.status("ready?")
            if self._audit is not None:
                await self._audit.check()
        except Refused as refusal:
            return refusal
        except (EnrollmentError, TimeoutError) as error:
            log.warning("not ready: %s", str(error) or f"no worker answered within {PATIENCE:g} s")
            is_broker = isinstance(error, BrokerUnavailable)
            code = "broker_unavailable" if is_broker else "no_worker"
            what = "The broker is not available" if is_broker else "No worker answers"
            detail = f"{what}; the log of the HTTP front says more."
            return Refused(503, code, detail, **{"Retry-After": "5"})
        finally:
            self._asked_at = time.monotonic()
        return None
