"""The servers of the tests behave as those that they stand for."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg.errors import InvalidSqlStatementName, ReadOnlySqlTransaction

from support.pgbouncer import running_pgbouncer
from support.standby import Pair


def test_clients_of_pgbouncer_share_connections(postgres: Callable[[str], str]) -> None:
    with (
        running_pgbouncer(postgres("postgres"), default_pool_size=1) as url,
        psycopg.connect(url, autocommit=True) as first,
        psycopg.connect(url, autocommit=True) as second,
    ):
        first.execute("PREPARE shared AS SELECT 1")
        assert second.execute("EXECUTE shared").fetchone() == (1,)
        second.execute("DEALLOCATE shared")
        with pytest.raises(InvalidSqlStatementName):
            first.execute("EXECUTE shared")


def test_a_name_leads_new_connections_to_the_new_primary(postgres_pair: Pair) -> None:
    pair = postgres_pair
    for _ in range(2):  # There and back.
        pair.primary.ask("CREATE TABLE written (n int)")
        pair.name.lead_to(pair.standby.port)
        with psycopg.connect(pair.url(), autocommit=True) as stale:
            with pytest.raises(ReadOnlySqlTransaction):
                stale.execute("DROP TABLE written")
            pair.name.lead_to(pair.primary.port)
            with psycopg.connect(pair.url(), autocommit=True) as fresh:
                fresh.execute("INSERT INTO written VALUES (1)")
            with pytest.raises(ReadOnlySqlTransaction):
                stale.execute("DROP TABLE written")
        pair.switch_over()
        with psycopg.connect(pair.url(), autocommit=True) as fresh:
            assert fresh.execute("SELECT n FROM written").fetchall() == [(1,)]
            fresh.execute("DROP TABLE written")
