"""Faults of PostgreSQL's settings: limits and formats that an operator sets and resets.

Workers set their own limits and formats, so most of these must have no effect at all.
"""

from collections.abc import Iterator
from functools import partial

from support.faults.database import REFUSED
from support.faults.kinds import Needs, Scene, state

on_postgres = partial(state, needs=Needs.POSTGRESQL)


@on_postgres()
def limit_statements(scene: Scene) -> Iterator[None]:
    with scene.any_setting(statement_timeout=scene.chance.choice(("1ms", "20ms", "100ms", "1s"))):
        yield


@on_postgres()
def limit_transactions(scene: Scene) -> Iterator[None]:
    with scene.any_setting(transaction_timeout=scene.chance.choice(("2ms", "50ms", "200ms", "1s"))):
        yield


@on_postgres()
def limit_idle_transactions(scene: Scene) -> Iterator[None]:
    limit = scene.chance.choice(("1ms", "10ms", "100ms"))
    with scene.any_setting(idle_in_transaction_session_timeout=limit):
        yield


@on_postgres()
def limit_idle_sessions(scene: Scene) -> Iterator[None]:
    with scene.any_setting(idle_session_timeout=scene.chance.choice(("10ms", "100ms", "1s"))):
        yield


@on_postgres()
def limit_locks(scene: Scene) -> Iterator[None]:
    with scene.any_setting(lock_timeout=scene.chance.choice(("1ms", "10ms", "1s"))):
        yield


@on_postgres(*REFUSED)
def forbid_writes(scene: Scene) -> Iterator[None]:
    """Let every transaction begin read-only, as on a server that is about to be replaced."""
    with scene.any_setting(default_transaction_read_only="on"):
        yield


@on_postgres()
def change_formats(scene: Scene) -> Iterator[None]:
    """Let sessions begin with formats that are not ours; the worker sets what it relies on."""
    choose = scene.chance.choice
    with scene.any_setting(
        DateStyle=choose(("German, DMY", "SQL, MDY", "Postgres, DMY")),
        IntervalStyle=choose(("sql_standard", "iso_8601")),
        TimeZone=choose(("Asia/Kolkata", "America/St_Johns")),
        bytea_output="escape",
        extra_float_digits="0",
        standard_conforming_strings=choose(("on", "off")),
    ):
        yield


@on_postgres()
def change_encoding(scene: Scene) -> Iterator[None]:
    encoding = scene.chance.choice(("LATIN1", "SQL_ASCII", "WIN1252"))
    with scene.any_setting(client_encoding=encoding):
        yield


@on_postgres()
def change_isolation(scene: Scene) -> Iterator[None]:
    level = scene.chance.choice(("repeatable read", "serializable"))
    with scene.any_setting(default_transaction_isolation=level):
        yield


@on_postgres(*REFUSED)
def hide_tables(scene: Scene) -> Iterator[None]:
    """Let sessions search for tables in a schema that has none."""
    with scene.any_setting(search_path=scene.chance.choice(("pg_catalog", "nothing"))):
        yield
