"""Read the settings and limits of PostgreSQL that apply to a worker's connection."""

from typing import NamedTuple

from worker.database.ask import Ask

TIME_LIMITS = (
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
)


class Setting(NamedTuple):
    """A setting as it applies to a connection; `source` says where it was set."""

    name: str
    value: str
    source: str


class Connections(NamedTuple):
    """How many connections there are, and how many there may be for this role."""

    used: int
    limit: int
    limited_by: str


def settings_of(ask: Ask) -> dict[str, Setting]:
    """Return the settings that may disturb a worker, by name. Raises what `ask` raises."""
    names = ", ".join(
        f"'{name}'" for name in (*TIME_LIMITS, "DateStyle", "session_replication_role")
    )
    rows = ask(f"SELECT name, setting, source FROM pg_settings WHERE name IN ({names})")  # noqa: S608
    return {row[0]: Setting(*row) for row in rows}


def override(ask: Ask, setting: str, value: str) -> str:
    """Return the statement that sets a value for this role and overrides every other default."""
    ((role, database),) = ask("SELECT quote_ident(current_user), quote_ident(current_database())")
    return f"ALTER ROLE {role} IN DATABASE {database} SET {setting} = {value};"


def clock_of(ask: Ask) -> float:
    """Return the time on the server's clock, in seconds since the epoch; raises as `ask` does."""
    ((seconds,),) = ask("SELECT extract(epoch FROM clock_timestamp())::float")
    return float(seconds)


def connections(ask: Ask) -> Connections:
    """Return the tightest limit on connections, and its use. Raises what `ask` raises."""
    rows = ask(
        """
        SELECT (SELECT COALESCE(sum(numbackends), 0)::int FROM pg_stat_database),
          (SELECT sum(setting::int * CASE name WHEN 'max_connections' THEN 1 ELSE -1 END)::int
           FROM pg_settings WHERE name IN
             ('max_connections', 'superuser_reserved_connections', 'reserved_connections')),
          'max_connections, without those that are reserved'
        UNION ALL
        SELECT (SELECT numbackends FROM pg_stat_database WHERE datname = current_database()),
          datconnlimit, 'the connection limit of the database'
        FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
        UNION ALL
        SELECT (SELECT count(*)::int FROM pg_stat_activity WHERE usename = current_user),
          rolconnlimit, 'the connection limit of the role'
        FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0
        """
    )
    return min((Connections(*row) for row in rows), key=lambda row: row.limit - row.used)
