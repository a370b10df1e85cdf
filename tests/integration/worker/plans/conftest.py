import pytest

from support.databases import store_roster
from worker.database.engine import Database


@pytest.fixture
def roster(database: Database) -> None:
    """Students A, B (keys 1, 2) and courses M1, M2 (keys 1, 2)."""
    store_roster(database, ["A", "B"], ["M1", "M2"])
