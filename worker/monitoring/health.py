"""Report the health of a worker and its database, for `enroll doctor`."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from producer.contract.lookups import DatabaseState, WorkerHealth
from worker import migrate
from worker.database.engine import make_engine
from worker.dead_letters.repository import count_all_dead_letters
from worker.settings import SettingsError, find_database_url

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3


def of_worker(database_url: str) -> WorkerHealth:
    """Return the health of this worker, even while its database is unavailable."""
    engine = make_engine(database_url, connect_seconds=CONNECT_SECONDS)
    try:
        state, detail = _of_database(engine)
    finally:
        engine.dispose()
    if state is DatabaseState.AWAY:
        # The client may be anyone, and the driver's message names hosts and users.
        log.warning("The database is unavailable: %s", detail)
        detail = "The log of the worker says why"
    return WorkerHealth(
        version=version("enrollment-worker"),
        now=datetime.now(UTC),
        database=state,
        detail=detail,
    )


def _of_database(engine: Engine) -> tuple[DatabaseState, str]:
    try:
        applied, newest = migrate.revisions(engine)
    except DBAPIError as error:
        first_line = str(error.orig).strip().partition("\n")[0]
        return DatabaseState.AWAY, first_line or type(error.orig).__name__
    if applied != newest:
        needed = ", ".join(newest)
        if not applied:
            return DatabaseState.OUTDATED, f"It has no migrations; this version needs {needed}"
        return DatabaseState.OUTDATED, f"It has migration {', '.join(applied)}, not {needed}"
    return DatabaseState.READY, f"{engine.dialect.name}, migration {', '.join(newest)}"


def checks() -> Iterator[dict[str, str]]:
    """Check the database directly, if `enroll doctor` has its URL (entry point `enroll.checks`)."""
    try:
        url = find_database_url()
    except SettingsError as error:
        yield _finding("wrong", str(error), "Correct the variable.")
        return
    if url is None:
        return
    engine = make_engine(url, connect_seconds=CONNECT_SECONDS)
    try:
        yield from _check(engine)
    finally:
        engine.dispose()


def _check(engine: Engine) -> Iterator[dict[str, str]]:
    path = engine.url.database
    if engine.dialect.name == "sqlite" and not Path(path or "").is_file():
        yield _finding("wrong", f"there is no file {path}", "Run `python -m worker.migrate`.")
        return
    state, detail = _of_database(engine)
    remedies = {
        DatabaseState.AWAY: "Start the database, or correct ENROLL_DATABASE_URL.",
        DatabaseState.OUTDATED: "If the database is older, run `python -m worker.migrate`; if it is"
        " newer, install the newer version. Then restart the workers.",
    }
    bad = state is not DatabaseState.READY
    report = f"as seen from here: {state.shown}. {detail}"
    yield _finding("wrong" if bad else "ok", report, remedies.get(state, ""))
    if bad:
        return
    with engine.connect().execution_options(read_only=True) as connection:
        letters = count_all_dead_letters(connection)
    if letters:
        remedy = "See why with `enroll dead-letters list`, then retry or discard them."
        yield _finding("warning", f"{letters:,} stored", remedy, "dead letters")
    else:
        yield _finding("ok", "none", check="dead letters")


def _finding(
    state: str, observation: str, remedy: str = "", check: str = "database"
) -> dict[str, str]:
    return {"check": check, "state": state, "found": observation, "remedy": remedy}
