"""The same worker, but some courses are poison to whoever looks for them (`celery -A poisoned`)."""

import os
import signal
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from worker.app import make_app
from worker.enrollment.repository import enroll_at_once, find_named
from worker.repository import find_keys
from worker.settings import load_settings

_find_named, _find_keys = find_named, find_keys
_enroll_at_once = enroll_at_once


def _strike(asked: Iterable[Any]) -> list[Any]:
    """Where a fault of the code would strike, whichever way a request takes."""
    ids = list(asked)
    if "KILLS" in ids:
        os.kill(os.getpid(), signal.SIGKILL)
    if "RAISES" in ids:
        raise ZeroDivisionError("a fault of the code")
    return ids


def _poisoned_names(
    connection: Connection,
    student_ids: Iterable[Any],
    course_ids: Iterable[Any],
    request_ids: Iterable[Any] = (),
) -> Any:
    return _find_named(connection, student_ids, _strike(course_ids), request_ids)


def _poisoned_keys(connection: Connection, model: Any, asked: Iterable[Any]) -> Any:
    return _find_keys(connection, model, _strike(asked))


def _poisoned_at_once(
    connection: Connection,
    request_id: str,
    fingerprint: int,
    student_id: Any,
    course_ids: Sequence[Any],
    now: datetime,
) -> Any:
    _strike(course_ids)
    return _enroll_at_once(connection, request_id, fingerprint, student_id, course_ids, now)


enroll_at_once = _poisoned_at_once
find_named = _poisoned_names
find_keys = _poisoned_keys
app = make_app(load_settings())
