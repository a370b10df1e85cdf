"""The same worker on a machine whose clock is wrong by `CLOCK_HOURS` hours."""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

OFF = timedelta(hours=float(os.environ["CLOCK_HOURS"]))
_real_time, _real_time_ns = time.time, time.time_ns
time.time = lambda: _real_time() + OFF.total_seconds()
time.time_ns = lambda: _real_time_ns() + int(OFF.total_seconds()) * 10**9

from worker import moments  # noqa: E402
from worker.app import make_app  # noqa: E402
from worker.dead_letters import letters  # noqa: E402
from worker.settings import load_settings  # noqa: E402


class WrongClock(datetime):
    """The clock of that machine."""

    @classmethod
    def now(cls, tz: Any = UTC) -> Any:
        return datetime.now(tz) + OFF


moments.datetime = letters.datetime = WrongClock  # type: ignore[attr-defined]
app = make_app(load_settings())
