import pytest

from support.databases import store_roster
from worker.database.engine import Database


@pytest.fixture
def roster(database: Database) -> None:
    """The student S and the course C."""
    store_roster(database, ["S"], ["C"])
