"""`enroll database`: which database the workers of a Redis use."""

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from sqlalchemy import text

from producer.contract.identity import DatabaseIdentity
from producer.contract.keys import Keys
from support.commands import (
    GOOD,
    INTERRUPTED,
    UNREACHABLE,
    USAGE,
    invoke_enroll,
    invoke_on_terminal,
)
from support.databases import identity_of, opened_database, url_of
from support.valkey import free_port
from worker.database.engine import Database
from worker.messaging.registration import DatabaseRegister

OTHER = DatabaseIdentity(id="f" * 32, cluster="1", number=7, place="production at db.internal")
UNCHANGED = 1


@pytest.fixture
def register(broker_url: str) -> DatabaseRegister:
    return DatabaseRegister(broker_url, Keys())


@pytest.fixture
def enroll(database: Database, broker_url: str) -> Callable[..., Result]:
    def run(
        *arguments: str, expect: int = GOOD, typed: str | None = None, **variables: str
    ) -> Result:
        urls = {"ENROLL_DATABASE_URL": url_of(database), "ENROLL_BROKER_URL": broker_url}
        if typed is None:
            done = invoke_enroll("database", *arguments, **(urls | variables))
        else:
            done = invoke_on_terminal("database", *arguments, typed=typed, **(urls | variables))
        assert done.exit_code == expect, done.output + repr(done.exception)
        assert isinstance(done.exception, SystemExit | None)
        return done

    return run


def test_both_are_shown_and_a_difference_is_an_error(
    enroll: Callable[..., Result], register: DatabaseRegister, database: Database
) -> None:
    assert "none is registered" in enroll("show").stdout
    register.replace(identity_of(database))
    assert enroll("show").stdout.count(identity_of(database).id) == 2
    register.replace(OTHER)
    shown = enroll("show", expect=UNCHANGED).stdout
    assert "production at db.internal" in shown
    lines = enroll("show", "--json", expect=UNCHANGED).stdout.splitlines()
    here, workers = (json.loads(line) for line in lines)
    assert (here["which"], workers["which"]) == ("here", "workers")
    assert DatabaseIdentity.model_validate(here["identity"]) == identity_of(database)
    assert DatabaseIdentity.model_validate(workers["identity"]) == OTHER


def test_a_database_is_accepted_after_a_question_that_names_both(
    enroll: Callable[..., Result], register: DatabaseRegister, database: Database
) -> None:
    register.replace(OTHER)
    for typed, code in (("n\n", UNCHANGED), ("\n", UNCHANGED), ("", INTERRUPTED), (None, USAGE)):
        done = enroll("accept", expect=code, typed=typed)
        assert f"The workers use {OTHER}" in done.stderr
        assert f"This makes them use {identity_of(database)}" in done.stderr
        assert register.find() == OTHER
    assert "there is no terminal to ask on" in done.stderr
    enroll("accept", typed="y\n")
    assert register.find() == identity_of(database)
    assert "already" in enroll("accept").stderr
    register.replace(OTHER)
    printed = json.loads(enroll("accept", "--yes", "--json").stdout)
    assert DatabaseIdentity.model_validate(printed) == register.find() == identity_of(database)


def test_a_copy_gets_a_new_identity_after_a_question(
    enroll: Callable[..., Result], register: DatabaseRegister, database: Database
) -> None:
    before = identity_of(database)
    register.replace(before)
    enroll("renew", expect=UNCHANGED, typed="n\n")
    enroll("renew", expect=USAGE)
    assert identity_of(database) == before
    enroll("renew", "--yes")
    assert identity_of(database).id != before.id
    assert register.find() == before
    enroll("show", expect=UNCHANGED)


def test_an_unavailable_redis_and_a_missing_setting_are_named(
    enroll: Callable[..., Result],
) -> None:
    url = f"redis://:a-password@127.0.0.1:{free_port()}/0"
    for command in ("show", "accept"):
        done = enroll(command, expect=UNREACHABLE, ENROLL_BROKER_URL=url)
        assert "The Redis at ENROLL_BROKER_URL cannot be used" in done.stderr
        assert "a-password" not in done.output
    assert "ENROLL_BROKER_URL" in enroll("show", expect=USAGE, ENROLL_BROKER_URL="").stderr


@pytest.fixture
def lost(database: Database) -> Iterator[Database]:
    """A database without its identity."""
    with opened_database(url_of(database)) as opened:
        with opened.writing() as connection:
            connection.execute(text("DELETE FROM database_identity"))
        yield opened


def test_a_lost_identity_is_renewed(enroll: Callable[..., Result], lost: Database) -> None:
    for command in ("show", "accept"):
        assert "enroll database renew" in enroll(command, expect=USAGE).stderr
    enroll("renew", "--yes")
    enroll("accept", "--yes")
