import pytest

from support.databases import store_roster
from worker.database.engine import Database


@pytest.fixture
def roster(database: Database) -> None:
    """The student S and the course C."""
    store_roster(database, ["S"], ["C"])


@pytest.fixture(autouse=True)
def redis_of_results(shared_valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that change results remove the copies of results from Redis."""
    monkeypatch.setenv("ENROLL_BROKER_URL", shared_valkey)
