"""Report the health of a worker and its database, for `enroll doctor`."""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from producer.contract.findings import Finding, ok, warning, wrong
from producer.contract.identity import DatabaseIdentity
from producer.contract.lookups import DatabaseState, WorkerHealth
from worker import migrate
from worker.database.ask import through
from worker.database.engine import Database, make_engine
from worker.database.errors import is_answer, outage_of, sentence_of
from worker.database.guard import DatabaseRefused
from worker.database.identity import NoIdentity, read_identity
from worker.dead_letters.repository import count_all_dead_letters
from worker.messaging.clock import RedisClock
from worker.messaging.registration import DatabaseRegister, why_refused
from worker.monitoring.database_checks import (
    check_clock,
    check_connections,
    check_encoding,
    check_keys,
    check_plans,
    check_redis_clock,
    check_settings,
    check_writes,
)
from worker.monitoring.plan_checks import check_waiting_plans
from worker.monitoring.process_checks import WorkerProcesses
from worker.settings import SettingsError, find_database_url

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3
REPORT_SECONDS = 5.0
"""Seconds after which a worker reports what it has found so far; its client is waiting."""

IN_WORKER = "as the worker sees it: "
FROM_HERE = "as seen from here: "


class _Report:
    """What a worker has found out about its database so far."""

    def __init__(self) -> None:
        self.state = DatabaseState.AWAY
        self.detail = ""
        self.identity: DatabaseIdentity | None = None
        self.findings: list[Finding] = []


def of_worker(
    database: Database,
    register: DatabaseRegister,
    clock: RedisClock | None = None,
    processes: WorkerProcesses | None = None,
) -> WorkerHealth:
    """Return the health of this worker, even while its database is unavailable or locked.

    A new connection shows whether the database can be reached. All other checks use the worker's
    own engine, so that they report on the connections that tasks use. `processes` are those of this
    worker.
    """
    report = _Report()
    thread = threading.Thread(target=_fill, args=(report, database, register, clock), daemon=True)
    thread.start()
    thread.join(REPORT_SECONDS)
    findings = tuple(report.findings)
    if thread.is_alive():
        found = f"{IN_WORKER}the database did not answer within {REPORT_SECONDS:g} s"
        remedy = "Look for a lock that another session holds, or for a network that drops packets."
        findings += (wrong("database", found, remedy),)
    if processes is not None:
        findings += tuple(processes.check())
    return WorkerHealth(
        version=version("enrollment-worker"),
        now=datetime.now(UTC),
        database=report.state,
        detail=report.detail,
        identity=report.identity,
        findings=findings,
    )


def _fill(
    report: _Report, database: Database, register: DatabaseRegister, clock: RedisClock | None
) -> None:
    try:
        # A new connection, because those of the pool may lead to where the database was before.
        engine = make_engine(database.url, connect_seconds=CONNECT_SECONDS)
        try:
            report.state, report.detail = _migrations(engine)
        finally:
            engine.dispose()
        report.findings.append(_state(report, IN_WORKER, _OF_WORKER))
        with database.engine.connect() as connection:  # It is rolled back at the end.
            report.findings += _seen(IN_WORKER, check_encoding(connection))
            if report.state is not DatabaseState.READY:
                return
            report.findings += check_writes(connection)
            report.findings += check_plans(connection)
            report.identity = read_identity(through(connection), database.engine.url)
            report.findings += _seen(IN_WORKER, check_keys(connection))
            report.findings += check_settings(connection)
            report.findings += check_connections(connection)
            report.findings += check_clock(connection, "the worker's")
            if clock is not None:
                report.findings += _clock_of_redis(connection, clock)
        report.findings.append(_registration(register, report.identity))
    except DBAPIError as error:
        _add_error(report, error)
    except NoIdentity as error:
        report.findings.append(wrong("identity", error.refusal.problem, error.refusal.remedy))


def _add_error(report: _Report, error: DBAPIError) -> None:
    """Report an error of the database, in words that any client may read."""
    report.state = DatabaseState.AWAY
    if isinstance(error.orig, DatabaseRefused):
        refusal = error.orig.refusal
        report.detail = str(error.orig)
        report.findings.append(wrong("database", f"{IN_WORKER}{refusal.problem}", refusal.remedy))
        return
    # Any client may read the database's own sentence, but the driver's names hosts and users.
    log.warning("%s: %s", outage_of(error), sentence_of(error))
    remedies = _OF_WORKER
    if is_answer(error) or isinstance(error.orig, sqlite3.Error):
        report.detail = sentence_of(error)
        remedies = {DatabaseState.AWAY: _FIX}
    else:
        report.detail = f"The worker's log has the reason, after `{outage_of(error)}`"
    report.findings.append(_state(report, IN_WORKER, remedies))


def _migrations(engine: Engine) -> tuple[DatabaseState, str]:
    """Return whether a database has the migrations of this version. Raises DBAPIError."""
    applied, newest = migrate.revisions(engine)
    if applied != newest:
        needed = ", ".join(newest)
        if not applied:
            return DatabaseState.OUTDATED, f"It has no migrations; this version needs {needed}"
        return DatabaseState.OUTDATED, f"It has migration {', '.join(applied)}, not {needed}"
    return DatabaseState.READY, f"{engine.dialect.name}, migration {', '.join(newest)}"


_MIGRATE = (
    "If the database is older, run `python -m worker.migrate`; if it is newer, install the newer"
    " version. Then restart the workers."
)
_FIX = "Fix what the database reports; until then workers wait and refuse nothing."
_OF_WORKER = {
    DatabaseState.AWAY: "Start the database, or correct ENROLL_DATABASE_URL of the workers.",
    DatabaseState.OUTDATED: _MIGRATE,
}
_FROM_HERE = {
    DatabaseState.AWAY: "Start the database, or correct ENROLL_DATABASE_URL.",
    DatabaseState.OUTDATED: _MIGRATE,
}


def _state(report: _Report, seen: str, remedies: dict[DatabaseState, str]) -> Finding:
    found = f"{seen}{report.state.shown}. {report.detail}".strip()
    if report.state is DatabaseState.READY:
        return ok("database", found)
    return wrong("database", found, remedies[report.state])


def _seen(where: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Say who found something that both the worker and this machine look at."""
    return (f.model_copy(update={"found": f"{where}{f.found}"}) for f in findings)


def _clock_of_redis(connection: Connection, clock: RedisClock) -> Iterator[Finding]:
    if clock.is_known:
        yield from check_redis_clock(connection, clock())
        return
    found = "the worker cannot read the clock of Redis; what it decides counts by its own clock"
    remedy = "Give the Redis user of the workers the rules in docs/redis-acl.conf (TIME)."
    yield warning("clock", found, remedy)


def _registration(register: DatabaseRegister, own: DatabaseIdentity) -> Finding:
    """Compare a worker's database with the registered one."""
    try:
        refusal = why_refused(own, register.find())
    except RedisError as error:
        found = f"the registered database cannot be read from Redis: {error}"
        remedy = "Check that Redis runs, and that its user worker has the rights in docs/access.md."
        return wrong("identity", found, remedy)
    if refusal is not None:
        return wrong("identity", f"{IN_WORKER}{refusal.problem}", refusal.remedy)
    return ok("identity", f"{IN_WORKER}{own}")


def checks(health: WorkerHealth | None, registered: DatabaseIdentity | None) -> Iterator[Finding]:
    """Check the database directly, if `enroll doctor` has its URL (entry point `enroll.checks`).

    It is compared with the database of the worker that reported its health, and with the one that
    is registered in Redis, if they are known.
    """
    try:
        url = find_database_url()
        if url is None:
            return
        engine = make_engine(url, connect_seconds=CONNECT_SECONDS)
    except SettingsError as error:
        yield wrong("database", str(error), "Correct the variable.")
        return
    try:
        yield from _check(engine, health.identity if health else None, registered)
    except DBAPIError as error:
        remedy = "Fix what the database reports, or use a role that may read its tables."
        yield wrong("database", f"{FROM_HERE}{sentence_of(error)}", remedy)
    finally:
        engine.dispose()


def _check(
    engine: Engine, of_worker: DatabaseIdentity | None, registered: DatabaseIdentity | None
) -> Iterator[Finding]:
    path = engine.url.database
    if engine.dialect.name == "sqlite" and not Path(path or "").is_file():
        remedy = "Correct ENROLL_DATABASE_URL, or create the file: `python -m worker.migrate`."
        yield wrong("database", f"there is no file {path}", remedy)
        return
    report = _Report()
    try:
        report.state, report.detail = _migrations(engine)
    except DBAPIError as error:
        report.detail = sentence_of(error)
    yield _state(report, FROM_HERE, _FROM_HERE)
    if report.state is DatabaseState.AWAY:
        return
    with engine.connect().execution_options(read_only=True) as connection:
        yield from _seen(FROM_HERE, check_encoding(connection))
        if report.state is not DatabaseState.READY:
            return
        yield from _seen(FROM_HERE, check_keys(connection))
        yield from check_clock(connection, "this machine's")
        yield from _compare(connection, of_worker, registered)
        letters = count_all_dead_letters(connection)
        plans = list(check_waiting_plans(connection))
    yield from plans
    if letters:
        remedy = "See why with `enroll dead-letters list`, then retry or discard them."
        yield warning("dead letters", f"{letters:,} stored", remedy)
    else:
        yield ok("dead letters", "none")


def _compare(
    connection: Connection, of_worker: DatabaseIdentity | None, registered: DatabaseIdentity | None
) -> Iterator[Finding]:
    try:
        own = read_identity(through(connection), connection.engine.url)
    except NoIdentity as error:
        yield wrong("identity", error.refusal.problem, error.refusal.remedy)
        return
    if of_worker is not None and not own.is_same(of_worker):
        found = f"ENROLL_DATABASE_URL points to {own} here, but to {of_worker} on the worker"
        yield wrong("identity", found, "Correct ENROLL_DATABASE_URL here or on the worker.")
    elif (refusal := why_refused(own, registered)) is not None:
        yield wrong("identity", refusal.problem, refusal.remedy)
    else:
        yield ok("identity", f"{FROM_HERE}{own}")
