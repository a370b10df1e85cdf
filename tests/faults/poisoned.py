"""The same worker, but some courses are poison to whoever checks them (`celery -A poisoned`)."""

import os
import signal
from typing import Any

from worker import service
from worker.app import make_app
from worker.settings import load_settings

_check = service._check  # noqa: SLF001 - where a fault of the code would strike


def _poisoned_check(asked: service.Asked, *others: Any) -> Any:
    courses = asked.request.course_ids if asked.request and not asked.problems else ()
    if "KILLS" in courses:
        os.kill(os.getpid(), signal.SIGKILL)
    if "RAISES" in courses:
        raise ZeroDivisionError("a fault of the code")
    return _check(asked, *others)


service._check = _poisoned_check  # type: ignore[assignment]  # noqa: SLF001
app = make_app(load_settings())
