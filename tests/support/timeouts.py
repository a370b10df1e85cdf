"""Give tests more time on a busy machine, before one of them counts as a test that hangs."""

import signal
import threading
import time
from typing import Any

import pytest
import pytest_timeout  # type: ignore[import-untyped]

from support.waiting import slowness


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: Any, settings: Any) -> bool | None:
    """Start the timer of a test; it goes on while the machine has more to do than it can."""
    is_main = threading.current_thread() is threading.main_thread()
    if settings.method != "signal" or not is_main:
        return None
    started = time.monotonic()

    def handle(_number: int, _frame: object) -> None:
        left = settings.timeout * slowness() - (time.monotonic() - started)
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, left)
        else:
            pytest_timeout.timeout_sigalrm(item, settings)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True
