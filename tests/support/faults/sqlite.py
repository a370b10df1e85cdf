"""Faults of SQLite: locked, renamed, or impossible to open."""

import sqlite3
from collections.abc import Iterator
from functools import partial

from support.databases import sqlite_taken_away
from support.faults.database import TABLES, UNAVAILABLE
from support.faults.kinds import Needs, Scene, state

on_sqlite = partial(state, needs=Needs.SQLITE)


@on_sqlite(seconds=(2, 12))
def lock_sqlite(scene: Scene) -> Iterator[None]:
    """Hold the lock of a writer."""
    connection = _connect(scene)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@on_sqlite(*UNAVAILABLE)
def rename_sqlite_table(scene: Scene) -> Iterator[None]:
    table = scene.chance.choice(TABLES)
    connection = _connect(scene)
    connection.execute("PRAGMA legacy_alter_table = on")
    connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
        connection.close()


@on_sqlite(*UNAVAILABLE)
def take_sqlite_away(scene: Scene) -> Iterator[None]:
    """Make the file impossible to open, and end a worker, whose successor must open it."""
    with sqlite_taken_away(scene.fleet.database_url):
        worker = scene.fleet.any_worker(scene.chance)
        worker.kill()
        scene.fleet.replace(worker)
        yield


def _connect(scene: Scene) -> sqlite3.Connection:
    path = scene.fleet.database_url.removeprefix("sqlite:///")
    return sqlite3.connect(path, timeout=60, isolation_level=None)
