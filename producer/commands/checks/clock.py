"""Compare a clock with this machine's."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from producer.contract.findings import Finding, ok, wrong
from producer.contract.printable import moment_text

CLOCKS_APART = 5.0
"""Seconds by which clocks may differ; lookups expire by the clock."""


def clock(whose: str, seconds: float) -> Iterator[Finding]:
    """Yield whether a clock, in seconds since the epoch, differs from this machine's."""
    difference = abs(time.time() - seconds)
    comparison = f"{whose} clock and this machine's differ by {difference:,.0f} s"
    if difference <= CLOCKS_APART:
        yield ok("clock", comparison)
    else:
        here = f"{moment_text(datetime.now(UTC))} here"
        remedy = "Synchronize both clocks with NTP, because lookups expire at a fixed time."
        yield wrong("clock", f"{comparison} (it is {here})", remedy)
