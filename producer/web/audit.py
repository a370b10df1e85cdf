"""Record who is shown whose data, for all calls of one process, before the data are sent."""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from producer.aio.coalescing import Coalescer
from producer.web.audit_files import AuditError, AuditFolder, Disclosure
from producer.web.problems import Refused

log = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds for which a call waits until its line is written."""

MAX_TOGETHER: Final = 500
"""The most lines that are written together."""


def default_folder() -> Path:
    """Return where disclosures are recorded if no folder is named. Raises AuditError."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        raise AuditError(
            "Disclosures cannot be recorded, because this user has no home folder. Name a folder"
            " with --audit or ENROLL_HTTP_AUDIT."
        ) from None
    return Path(state) / "enroll" / "audit"


class AuditLog:
    """Records what calls disclose; belongs to one event loop. One thread writes for all calls."""

    def __init__(self, folder: AuditFolder) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "enrollment-audit")
        self._lines: Coalescer[None, Disclosure, None] = Coalescer(
            self._write, at_most=MAX_TOGETHER
        )
        self._complained_at = float("-inf")

    async def record(self, disclosure: Disclosure) -> None:
        """Return once the disclosure is in the file. Raises Refused if it cannot be written."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._lines.add(None, disclosure)
        except OSError as error:
            raise self._refusal(error) from None

    async def check(self) -> None:
        """Raise Refused if disclosures cannot be recorded at the moment."""
        try:
            async with asyncio.timeout(PATIENCE):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._folder.check)
        except OSError as error:
            raise self._refusal(error) from None

    def close(self) -> None:
        """End the thread; what is being written is finished."""
        self._lines.close()
        self._thread.shutdown(wait=False)

    async def _write(self, _: None, disclosures: list[Disclosure]) -> Sequence[Exception | None]:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._folder.write, disclosures)
        return [None] * len(disclosures)

    def _refusal(self, error: OSError) -> Refused:
        self._complain(error)
        return Refused(
            503,
            "audit_unavailable",
            "The service shows no data at the moment, because it cannot record who sees whose data."
            " Try again later; the operator finds the reason in the log of the HTTP front.",
            **{"Retry-After": "5"},
        )

    def _complain(self, error: OSError) -> None:
        """Log why, at most once a second: every call fails in the same way."""
        if time.monotonic() - self._complained_at >= 1:
            self._complained_at = time.monotonic()
            reason = error.strerror or f"nothing was written for {PATIENCE:g} s"
            log.error("Disclosures cannot be recorded in %s: %s", self._folder.path, reason)
