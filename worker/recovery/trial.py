"""Finds the records that kill whoever touches them, or that fail with an unexpected error.

Each trial runs in a process of its own, in a transaction that is rolled back.
"""

import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker.database.engine import Database
from worker.database.errors import is_outage

T = TypeVar("T")
TRIAL_SECONDS = 20.0
SEARCH_SECONDS = 60.0
"""When the search takes longer, all of what is known to fail together counts as poison."""

_OUTAGE = b"!"


class TrialInterrupted(Exception):
    """The database was away during a trial, which says nothing about the records."""


def find_poison(
    database: Database, records: Sequence[T], work: Callable[[Connection, Sequence[T]], Any]
) -> dict[int, str]:
    """The places of the records that work cannot be done for, each with what happened.

    Raises TrialInterrupted.
    """
    end = time.monotonic() + SEARCH_SECONDS

    def search(start: int, stop: int) -> dict[int, str]:
        happened = run_in_child(database, lambda connection: work(connection, records[start:stop]))
        if happened is None:
            return {}
        if stop - start <= 1 or time.monotonic() > end:
            return dict.fromkeys(range(start, stop), happened)
        middle = (start + stop) // 2
        return search(start, middle) | search(middle, stop)

    return search(0, len(records))


def run_in_child(database: Database, work: Callable[[Connection], Any]) -> str | None:
    """Do work in a process that may die of it; returns what happened, or None if all went well.

    Nothing of it stays in the database. Raises TrialInterrupted.
    """
    database.close()  # No connection may be shared with another process.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _try(database, work, writer)
    os.close(writer)
    said = _read(reader, child)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if said == _OUTAGE:
        raise TrialInterrupted
    if code == 0:
        return None
    if code == -signal.SIGKILL and said is None:
        return f"it took longer than {TRIAL_SECONDS:g} s"
    if code < 0:
        return f"the process died of signal {-code} ({signal.Signals(-code).name})"
    return (said or b"").decode(errors="replace") or f"the process ended with exit code {code}"


def _try(database: Database, work: Callable[[Connection], Any], writer: int) -> None:
    """In the child; never returns."""
    code = 1
    try:
        with suppress(_Rollback), database.writing() as connection:
            work(connection)
            raise _Rollback  # noqa: TRY301 - rolls back
        code = 0
    except DBAPIError as error:
        os.write(writer, _OUTAGE if is_outage(error) else _traceback(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is
        os.write(writer, _traceback(error))
    finally:
        os._exit(code)


class _Rollback(Exception):
    """Rolls a trial back."""


def _traceback(error: BaseException) -> bytes:
    """The traceback, short enough for a pipe that nobody reads yet."""
    return "".join(traceback.format_exception(error)).encode(errors="replace")[-32_000:]


def _read(reader: int, child: int) -> bytes | None:
    """What the child says before it ends; None if it had to be killed."""
    end = time.monotonic() + TRIAL_SECONDS
    said = b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                piece = pipe.read(65_536)
                if not piece:
                    return said
                said += piece
    os.kill(child, signal.SIGKILL)
    return None
