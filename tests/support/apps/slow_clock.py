"""The same worker with a clock that is a minute slow."""

from datetime import UTC, datetime, timedelta
from typing import Any

from worker.app import make_app
from worker.monitoring import health
from worker.settings import load_settings


class SlowClock(datetime):
    """The clock that `health` reads; lookups must not expire by it."""

    @classmethod
    def now(cls, tz: Any = UTC) -> Any:
        return datetime.now(tz) - timedelta(minutes=1)


health.datetime = SlowClock  # type: ignore[attr-defined]
app = make_app(load_settings())
