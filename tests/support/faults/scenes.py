"""Set up what storms strike: servers with their replicas, and workers that differ."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.faults.kinds import Scene
from support.fleet import fleet
from support.pgbouncer import PgBouncer
from support.postgres import folder_for_all_users
from support.standby import Pair, PairDatabase


@contextmanager
def sqlite_scene(folder: Path, database_url: str) -> Iterator[Scene]:
    """A replicated broker and two workers on SQLite; the clock of one of them is wrong."""
    with fleet(folder, database_url, replicated=True) as made:
        made.start_worker(proxied=True)
        made.start_worker("support.apps.skewed")
        yield Scene(made, random.Random())


@contextmanager
def postgres_scene(folder: Path, pair: Pair) -> Iterator[Scene]:
    """A replicated broker, a replicated PostgreSQL, and three workers.

    The clock of one of them is wrong, and one uses PgBouncer.
    """
    database = PairDatabase(pair)
    with (
        folder_for_all_users() as pooler_folder,
        fleet(folder, database.url, replicated=True) as made,
    ):
        pooler = PgBouncer(pooler_folder, database.url)
        try:
            made.start_worker(proxied=True)
            made.start_worker("support.apps.skewed")
            made.start_worker(database_url=f"{pooler.url}?pool_mode=transaction")
            yield Scene(made, random.Random(), database, pooler)
        finally:
            pooler.kill()
