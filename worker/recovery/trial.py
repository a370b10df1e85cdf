"""Find poison: records that kill their process or fail with an unexpected error.

Each trial runs in a child process, in a transaction that is rolled back.
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
from worker.database.errors import is_outage, sentence_of
from worker.database.probe import probe

T = TypeVar("T")
TRIAL_SECONDS = 20.0
"""Seconds after which a trial is killed, and counts as failed."""

SEARCH_SECONDS = 60.0
"""Seconds after which the search stops: records that failed together then all count as poison."""

_OUTAGE = "!"
"""What a child process reports if the database was unavailable."""


class TrialInterrupted(Exception):
    """The database was unavailable during a trial, so the trial says nothing about the records.

    If it is still unavailable, the error of the probe is the cause.
    """


def find_poison(
    database: Database, records: Sequence[T], work: Callable[[Connection, Sequence[T]], Any]
) -> dict[int, str]:
    """Return the positions of the records that `work` fails for, each with what happened.

    Raises TrialInterrupted.
    """
    end = time.monotonic() + SEARCH_SECONDS

    def search(start: int, stop: int) -> dict[int, str]:
        failure = run_in_child(database, lambda connection: work(connection, records[start:stop]))
        if failure is None:
            return {}
        if stop - start <= 1 or time.monotonic() > end:
            return dict.fromkeys(range(start, stop), failure)
        middle = (start + stop) // 2
        return search(start, middle) | search(middle, stop)

    return search(0, len(records))


def run_in_child(database: Database, work: Callable[[Connection], Any]) -> str | None:
    """Do the work in a child process, which it may kill; return the failure, or None.

    The database is left unchanged. A failure counts only if the database would have accepted other
    work at the same time. Raises TrialInterrupted.
    """
    failure = _run_in_child(database, work)
    if failure is not None:
        try:
            probe(database)
        except DBAPIError as error:
            raise TrialInterrupted from error
    if failure == _OUTAGE:
        raise TrialInterrupted
    return failure


def _run_in_child(database: Database, work: Callable[[Connection], Any]) -> str | None:
    database.close()  # No connection may be shared with another process.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _try(database, work, writer)
    os.close(writer)
    report = _read(reader, child)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    if code == -signal.SIGKILL and report is None:
        return f"it took longer than {TRIAL_SECONDS:g} s"
    if code < 0:
        return f"the process was killed by signal {-code} ({signal.Signals(-code).name})"
    return (report or b"").decode(errors="replace") or f"the process ended with exit code {code}"


def _try(database: Database, work: Callable[[Connection], Any], writer: int) -> None:
    """Do the work in the child process, report the failure and exit; never return."""
    code = 1
    try:
        with suppress(_Rollback), database.writing() as connection:
            work(connection)
            raise _Rollback  # noqa: TRY301 - rolls back the transaction
        code = 0
    except BaseException as error:  # noqa: BLE001 - every failure is reported
        os.write(writer, _report(error))
    finally:
        os._exit(code)


class _Rollback(Exception):
    """Rolls a trial back."""


def _report(error: BaseException) -> bytes:
    """Return what went wrong, short enough for a pipe that is not being read yet.

    The last line says it for people; the lines before it are the end of the traceback.
    """
    if is_outage(error):
        return _OUTAGE.encode()
    trace = "".join(traceback.format_tb(error.__traceback__)).encode(errors="replace")
    return trace[-30_000:] + sentence_of(error).encode(errors="replace")[:2_000]


def _read(reader: int, child: int) -> bytes | None:
    """Return the child's report; None if the child took too long and was killed."""
    end = time.monotonic() + TRIAL_SECONDS
    report = b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (seconds_left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], seconds_left)[0]:
                piece = pipe.read(65_536)
                if not piece:
                    return report
                report += piece
    os.kill(child, signal.SIGKILL)
    return None
