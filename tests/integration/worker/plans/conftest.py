from collections.abc import Callable, Iterator

import pytest

from support.databases import opened_database, store_roster
from worker.database.engine import Database


@pytest.fixture
def roster(database: Database) -> None:
    """Students A, B (keys 1, 2) and courses M1, M2 (keys 1, 2)."""
    store_roster(database, ["A", "B"], ["M1", "M2"])


@pytest.fixture
def postgres_url(new_database: Callable[[str], str]) -> str:
    """The URL of a database of PostgreSQL, for what SQLite has no counterpart of."""
    return new_database("postgresql")


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    with opened_database(postgres_url) as made:
        yield made


@pytest.fixture
def sqlite_database(new_database: Callable[[str], str]) -> Iterator[Database]:
    with opened_database(new_database("sqlite")) as made:
        yield made
