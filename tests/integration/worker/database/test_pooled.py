"""Behind a pooler that lends its sessions to many clients, each statement is the right one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from support.databases import opened_database
from support.pgbouncer import running_pgbouncer
from worker.database.engine import LOCK_SECONDS, Database, is_lent_for_a_transaction

Pair = tuple[Database, Database]
SEVERAL_TIMES = 12
"""The driver prepares a statement when it runs for the sixth time."""


@pytest.fixture(params=["", "?pool_mode=transaction"], ids=["not named", "named"])
def pair(postgres: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two clients that share one session of the server."""
    with running_pgbouncer(postgres("postgres"), default_pool_size=1) as pooled:
        url = pooled + request.param
        with opened_database(url) as first, opened_database(url) as second:
            yield first, second


def test_no_client_runs_a_statement_of_another_one(pair: Pair) -> None:
    statements = (text("SELECT 'first', :value"), text("SELECT 'second', :value"))
    for number in range(SEVERAL_TIMES):
        for database, statement, name in zip(pair, statements, ("first", "second"), strict=True):
            value = str(number)
            with database.reading() as connection:
                assert tuple(connection.execute(statement, {"value": value}).one()) == (name, value)
            with database.writing() as connection:
                assert tuple(connection.execute(statement, {"value": value}).one()) == (name, value)


def test_each_transaction_has_its_settings_whatever_the_session_has(pair: Pair) -> None:
    ours, other = pair
    with other.writing() as connection:
        connection.execute(text("SET SESSION lock_timeout = 0"))
    for opened in (ours.writing, ours.reading):
        with opened() as connection:
            assert is_lent_for_a_transaction(connection)
            assert connection.scalar(text("SHOW lock_timeout")) == f"{LOCK_SECONDS}s"


def test_a_direct_connection_or_a_named_session_prepares_statements(
    postgres: Callable[[str], str],
) -> None:
    direct = postgres("postgres")
    with running_pgbouncer(direct, pool_mode="session") as pooled:
        for url in (direct, f"{pooled}?pool_mode=session"):
            with opened_database(url) as database, database.reading() as connection:
                assert not is_lent_for_a_transaction(connection)
                driver: Any = connection.connection.driver_connection
                assert driver.prepare_threshold is not None
