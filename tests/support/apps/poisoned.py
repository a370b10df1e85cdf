"""The same worker, but some courses are poison to any code that looks for them."""

import os
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from worker import service
from worker.app import make_app
from worker.enrollment import shortcuts
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.loading.repository import Documents, load_for_requests
from worker.enrollment.values import RequestLookup
from worker.repository import find_keys
from worker.settings import load_settings


def _strike(ids: Iterable[Any]) -> list[Any]:
    """Fail as a bug in the code would, whichever path a request takes."""
    ids = list(ids)
    if "KILLS" in ids:
        os.kill(os.getpid(), signal.SIGKILL)
    if "RAISES" in ids:
        raise ZeroDivisionError("a fault of the code")
    return ids


def _poisoned_load(
    connection: Connection, requests: Sequence[IncomingRequest], early: Documents | None = None
) -> RequestLookup:
    for incoming in requests:
        if incoming.request is not None and not incoming.problems:
            _strike(incoming.request.course_ids)
    return load_for_requests(connection, requests, early)


def _poisoned_keys(connection: Connection, model: Any, ids: Iterable[Any]) -> Any:
    return find_keys(connection, model, _strike(ids))


service.load_for_requests = _poisoned_load  # type: ignore[attr-defined]
shortcuts.find_keys = _poisoned_keys  # type: ignore[attr-defined]
app = make_app(load_settings())
