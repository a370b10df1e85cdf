"""Set up what storms strike: servers with their replicas, and workers that differ."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from support.broker import Broker
from support.faults.kinds import Scene
from support.fleet import fleet
from support.folders import folder_for_all_users
from support.pgbouncer import PgBouncer
from support.sentinels import SentinelBroker
from support.standby import Pair, PairDatabase


@contextmanager
def sqlite_scene(folder: Path, database_url: str) -> Iterator[Scene]:
    """A replicated broker and two workers on SQLite; the clock of one of them is wrong."""
    broker = Broker(folder / "valkey", replicated=True)
    with fleet(folder, database_url, broker) as made:
        made.start_worker(proxied=True)
        made.start_worker("support.apps.skewed")
        yield Scene(made, random.Random())


@contextmanager
def postgres_scene(folder: Path, pair: Pair) -> Iterator[Scene]:
    """A replicated broker, a replicated PostgreSQL, and three workers.

    The clock of one of them is wrong, and one uses PgBouncer.
    """
    database = PairDatabase(pair)
    broker = Broker(folder / "valkey", replicated=True)
    with (
        folder_for_all_users() as pooler_folder,
        fleet(folder, database.url, broker) as made,
    ):
        pooler = PgBouncer(pooler_folder, database.url)
        try:
            made.start_worker(proxied=True)
            made.start_worker("support.apps.skewed")
            made.start_worker(database_url=f"{pooler.url}?pool_mode=transaction")
            yield Scene(made, random.Random(), database, pooler)
        finally:
            pooler.kill()


@contextmanager
def sentinel_scene(folder: Path, database_url: str) -> Iterator[Scene]:
    """A broker that sentinels watch, and two workers; the clock of one of them is wrong."""
    with fleet(folder, database_url, SentinelBroker(folder / "redis")) as made:
        made.start_worker()
        made.start_worker("support.apps.skewed")
        yield Scene(made, random.Random())


SCENES = ("sqlite", "postgresql", "sentinels")


def scene_of(
    name: str, folder: Path, fixture: Callable[[str], Any]
) -> AbstractContextManager[Scene]:
    """Return the scene of this name; `fixture` returns a fixture of the tests."""
    match name:
        case "sqlite":
            return sqlite_scene(folder, fixture("new_database")("sqlite"))
        case "sentinels":
            return sentinel_scene(folder, fixture("new_database")("postgresql"))
    return postgres_scene(folder, fixture("postgres_pair"))
