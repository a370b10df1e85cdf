"""The settings and limits of PostgreSQL that a worker's connection has to live with."""

import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, text

from producer.contract.findings import State
from support.copies import Administer, as_role, name_of
from support.databases import opened_database
from worker.monitoring.database_checks import check_connections, check_settings

SOURCES = {
    "role": "ALTER ROLE {role} SET {name} = {value}",
    "database": "ALTER DATABASE {database} SET {name} = {value}",
    "role in the database": "ALTER ROLE {role} IN DATABASE {database} SET {name} = {value}",
}


@pytest.fixture
def role(administer: Administer) -> str:
    name = f"r{uuid.uuid4().hex}"
    administer(f"CREATE ROLE {name} LOGIN")
    return name


LIMITS = [
    ("statement_timeout", "'1s'", State.WRONG),
    ("statement_timeout", "'20s'", State.WARNING),
    ("transaction_timeout", "'1s'", State.WRONG),
    ("idle_in_transaction_session_timeout", "'3s'", State.WRONG),
    ("lock_timeout", "'10s'", State.WARNING),
]


def plain_findings(database_url: str) -> list[tuple[State, str, str]]:
    """Return what is found on a connection that sets nothing itself."""
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = [(f.state, f.found, f.remedy) for f in check_settings(connection)]
    engine.dispose()
    return found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("name", "value", "state"), LIMITS)
def test_a_limit_that_a_chunk_cannot_meet_is_named_and_the_remedy_works(
    administer: Administer,
    new_database: Callable[[str], str],
    role: str,
    name: str,
    value: str,
    state: State,
    source: str,
) -> None:
    owner_url = new_database("postgresql")
    database, url = name_of(owner_url), as_role(owner_url, role)
    assert [found for found, _, _ in plain_findings(url)] == [State.OK]
    administer(SOURCES[source].format(role=role, database=database, name=name, value=value))
    ((found_state, found, remedy),) = plain_findings(url)
    assert found_state is state
    assert found.startswith(f"{name} is ")
    administer(remedy.partition("Run: ")[2].partition(" Workers renew")[0])
    assert [found for found, _, _ in plain_findings(url)] == [State.OK]


def test_a_limit_in_the_url_is_named_with_where_it_is(
    new_database: Callable[[str], str],
) -> None:
    url = f"{new_database('postgresql')}&options=-c%20statement_timeout%3D1000"
    ((state, found, remedy),) = plain_findings(url)
    assert (state, "1,000 ms (source: client)" in found) == (State.WRONG, True)
    assert "options in ENROLL_DATABASE_URL" in remedy


def test_a_limit_that_the_worker_sets_itself_is_none(new_database: Callable[[str], str]) -> None:
    url = new_database("postgresql")
    with opened_database(url) as database, database.engine.connect() as connection:
        connection.execute(text("SET LOCAL statement_timeout = '1s'"))
        assert [found.state for found in check_settings(connection)] == [State.OK]


HARMS = {
    "DateStyle": ("'German'", State.WRONG, "dates cannot be read"),
    "session_replication_role": ("replica", State.WRONG, "foreign keys are not checked"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", HARMS)
def test_a_setting_that_does_harm_is_named_and_the_remedy_works(
    administer: Administer,
    new_database: Callable[[str], str],
    role: str,
    name: str,
    source: str,
) -> None:
    owner_url = new_database("postgresql")
    database, (value, state, words) = name_of(owner_url), HARMS[name]
    administer(SOURCES[source].format(role=role, database=database, name=name, value=value))
    ((found_state, found, remedy),) = plain_findings(as_role(owner_url, role))
    assert (found_state, words in found) == (state, True)
    administer(remedy.partition("Run: ")[2].partition(" Workers renew")[0])
    ((found_state, _, _),) = plain_findings(as_role(owner_url, role))
    assert found_state is State.OK


def test_connections_are_counted_against_the_tightest_limit(
    administer: Administer, new_database: Callable[[str], str], role: str
) -> None:
    url = as_role(new_database("postgresql"), role)
    with opened_database(url) as database, database.engine.connect() as connection:
        (finding,) = check_connections(connection)
        assert finding.state is State.OK
        assert "(max_connections, without those that are reserved)" in finding.found
        administer(f"ALTER ROLE {role} CONNECTION LIMIT 1")
        (finding,) = check_connections(connection)
        assert finding.state is State.WARNING
        assert "1 of 1 connections are in use (the connection limit of the role)" in finding.found
        administer(f"ALTER ROLE {role} CONNECTION LIMIT -1")
        administer(f"ALTER DATABASE {name_of(url)} CONNECTION LIMIT 1")
        (finding,) = check_connections(connection)
        assert "the connection limit of the database" in finding.found
