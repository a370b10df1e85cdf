"""Check a database: a worker does so through its own pool, `enroll doctor` directly."""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection

from producer.contract.findings import Finding, ok, warning, wrong
from worker.database.ask import Ask, through
from worker.database.encoding import wrong_encoding
from worker.database.fitness import broken_parts, problems, repair
from worker.database.limits import (
    TIME_LIMITS,
    Setting,
    clock_of,
    connections,
    override,
    settings_of,
)
from worker.database.rights import APPLIES, refused_plans, refused_writes

CLOCKS_APART = 5.0
"""Seconds by which the database's clock may differ."""
TOO_SHORT, SHORT = 5_000, 30_000
"""Milliseconds: a time limit below the first ends many chunks; one below the second may end a large
chunk while the database is busy."""
FULL = 0.9
"""The fraction of the possible connections at which `enroll doctor` warns."""


def check_encoding(connection: Connection) -> Iterator[Finding]:
    """Check how the database stores text. Raises DBAPIError."""
    refusal = wrong_encoding(through(connection), connection.dialect.name)
    yield (
        wrong("encoding", refusal.problem, refusal.remedy)
        if refusal
        else ok("encoding", "the database is UTF-8")
    )


def check_keys(connection: Connection) -> Iterator[Finding]:
    """Check the keys and sequences that protect the rows. Raises DBAPIError."""
    dialect = connection.dialect.name
    broken = broken_parts(through(connection), dialect)
    if broken:
        yield wrong("keys", problems(broken), repair(broken, dialect))
    else:
        yield ok("keys", "all primary, unique and foreign keys are there and enforced")


def check_clock(connection: Connection, whose: str) -> Iterator[Finding]:
    """Compare the clock of PostgreSQL with this process's. Raises DBAPIError."""
    if connection.dialect.name != "postgresql":
        return
    difference = abs(datetime.now(UTC).timestamp() - clock_of(through(connection)))
    found = f"the database's clock and {whose} differ by {difference:,.0f} s"
    if difference <= CLOCKS_APART:
        yield ok("clock", found)
    else:
        yield warning("clock", found, "Synchronize both clocks with NTP.")


def check_redis_clock(connection: Connection, redis_now: datetime) -> Iterator[Finding]:
    """Compare the clock of Redis with the database's, or else this machine's. Raises DBAPIError."""
    now, whose = datetime.now(UTC).timestamp(), "the worker's"
    if connection.dialect.name == "postgresql":
        now, whose = clock_of(through(connection)), "the database's"
    difference = abs(redis_now.timestamp() - now)
    found = f"the clock of Redis and {whose} differ by {difference:,.0f} s"
    if difference <= CLOCKS_APART:
        yield ok("clock", found)
    else:
        remedy = (
            "Synchronize both clocks with NTP: that of Redis decides which of two requests is the"
            " later one, and the other one says when they were completed."
        )
        yield warning("clock", found, remedy)


def check_writes(connection: Connection) -> Iterator[Finding]:
    """Try to write into every table; the caller rolls back. Raises DBAPIError."""
    refusal = refused_writes(connection)
    yield (
        wrong("writes", refusal.problem, refusal.remedy)
        if refusal
        else ok("writes", "every table accepts them")
    )


def check_plans(connection: Connection) -> Iterator[Finding]:
    """Check that plans can be made: a dry run, or a snapshot. Raises DBAPIError."""
    refusal = refused_plans(connection)
    yield (
        warning("plans", refusal.problem, refusal.remedy)
        if refusal
        else ok("plans", "they can be made: the worker may create temporary tables")
    )


def check_settings(connection: Connection) -> Iterator[Finding]:
    """Check the settings that apply to a connection to PostgreSQL. Raises DBAPIError."""
    if connection.dialect.name != "postgresql":
        return
    ask = through(connection)
    settings = settings_of(ask)
    findings = [_limit(ask, settings[name]) for name in TIME_LIMITS if name in settings]
    findings += [
        _value(ask, settings["DateStyle"], "ISO", "dates cannot be read"),
        _value(ask, settings["session_replication_role"], "origin", "foreign keys are not checked"),
    ]
    bad = [finding for finding in findings if finding is not None]
    yield from bad or [ok("settings", "no setting or time limit would stop a chunk")]


def _limit(ask: Ask, limit: Setting) -> Finding | None:
    milliseconds = int(limit.value)
    is_own = limit.source == "session"  # The worker set it itself.
    if not 0 < milliseconds < SHORT or is_own:
        return None
    found = (
        f"{limit.name} is {milliseconds:,} ms (source: {limit.source}), but a chunk may take longer"
    )
    if limit.source == "client":
        remedy = f"Remove {limit.name} from the options in ENROLL_DATABASE_URL, or from PGOPTIONS."
    else:
        remedy = f"Run: {override(ask, limit.name, '0')} {APPLIES}"
    return (wrong if milliseconds < TOO_SHORT else warning)("settings", found, remedy)


def _value(ask: Ask, setting: Setting, right: str, harm: str) -> Finding | None:
    if setting.value.startswith(right):
        return None
    found = f"{setting.name} is {setting.value} (source: {setting.source}), so {harm}"
    return wrong("settings", found, f"Run: {override(ask, setting.name, right)} {APPLIES}")


def check_connections(connection: Connection) -> Iterator[Finding]:
    """Check that the server has room for more connections. Raises DBAPIError."""
    if connection.dialect.name != "postgresql":
        return
    used, limit, limited_by = connections(through(connection))
    found = f"{used:,} of {limit:,} connections are in use ({limited_by})"
    if used < FULL * limit:
        yield ok("connections", found)
    else:
        remedy = "Raise the limit, run fewer workers, or put PgBouncer in front of the database."
        yield warning("connections", found, remedy)
