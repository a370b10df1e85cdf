"""Implement `enroll database`: show, accept and renew the identity of the database."""

import contextlib
import json
from collections.abc import Iterator

import click
from redis.exceptions import RedisError

from producer.contract.identity import DatabaseIdentity
from producer.contract.keys import Keys
from worker.commands.location import load_command_settings
from worker.commands.results import changing_results
from worker.commands.session import (
    REMAINS,
    UNREACHABLE,
    USAGE,
    fail,
    print_message,
    print_table,
    with_database,
)
from worker.database.ask import through
from worker.database.engine import Database
from worker.database.identity import NoIdentity, read_identity, renew_identity
from worker.messaging.celery_settings import attempts_url
from worker.messaging.registration import DatabaseRegister

ABOUT = """
Works on the database at ENROLL_DATABASE_URL and the Redis at ENROLL_BROKER_URL, or on those of
`enroll up`; run it as the operator.

\b
Exit codes: 0 success, 1 the workers use another database (show) or nothing was changed,
2 wrong usage or settings, 3 the database or Redis cannot be used.
"""
EXAMPLES = """
\b
Examples:
  enroll database show
  enroll database accept
"""
SHOW_EXAMPLES = """
\b
Examples:
  enroll database show
  enroll database show --json
"""
ACCEPT_EXAMPLES = """
\b
Examples:
  enroll database accept
  enroll database accept --yes
"""
RENEW_EXAMPLES = """
\b
Examples:
  enroll database renew
  enroll database renew --yes
"""

_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.group(epilog=ABOUT + EXAMPLES)
def database() -> None:
    """Show or change which database the workers of a Redis use.

    A worker registers its database in Redis, and refuses to start if another one is registered.
    """


@database.command(epilog=ABOUT + SHOW_EXAMPLES)
@with_database
def show(database: Database, as_json: bool) -> int:
    """Show the database at ENROLL_DATABASE_URL and the one that the workers use.

    It is an error (exit code 1) if they are not the same.
    """
    own = _identity(database)
    with _redis() as register:
        registered = register.find()
    rows = {"at ENROLL_DATABASE_URL": own, "used by the workers": registered}
    if as_json:
        for which, identity in zip(("here", "workers"), rows.values(), strict=True):
            fields = None if identity is None else identity.model_dump()
            click.echo(json.dumps({"which": which, "identity": fields}))
    else:
        table = [
            (which, i.place, i.id, i.number, i.cluster) if i else (which, "none is registered")
            for which, i in rows.items()
        ]
        print_table(("", "database", "identity", "number", "cluster"), table)
    return 0 if registered is None or own.is_same(registered) else REMAINS


@database.command(epilog=ABOUT + ACCEPT_EXAMPLES)
@_yes
@with_database
def accept(database: Database, yes: bool, as_json: bool) -> int:
    """Make the database at ENROLL_DATABASE_URL the one that workers use, after a restore or move.

    Workers that run with another database finish their current work, and stop within seconds.
    """
    own = _identity(database)
    with _redis() as register:
        registered = register.find()
        if registered is not None and own.is_same(registered):
            return _done(own, as_json, f"The workers already use {own}.")
        before = f"use {registered}" if registered else "have registered no database"
        print_message(f"The workers {before}. This makes them use {own}.")
        if not _confirmed(yes):
            return REMAINS
        with changing_results():
            register.replace(own)
    return _done(own, as_json, "Accepted. Start the workers with this database.")


@database.command(epilog=ABOUT + RENEW_EXAMPLES)
@_yes
@with_database
def renew(database: Database, yes: bool, as_json: bool) -> int:
    """Give the database at ENROLL_DATABASE_URL a new identity, if it is a physical copy.

    Without a new identity, a copy that was made from a base backup or a snapshot of a volume
    cannot be distinguished from its original. Do this before the copy is used, with no worker
    running on it.
    """
    url = database.engine.url.render_as_string(hide_password=True)
    print_message(
        f"This gives the database {url} a new identity. Workers that use it stop, unless you run"
        " `enroll database accept` afterwards."
    )
    if not _confirmed(yes):
        return REMAINS
    with database.writing() as connection:
        renew_identity(connection)
    own = _identity(database)
    sentence = (
        f"The database now has a new identity: {own}. If the workers of this Redis should use it,"
        " run: enroll database accept"
    )
    return _done(own, as_json, sentence)


def _identity(database: Database) -> DatabaseIdentity:
    """Return the identity of the database; exit if it has none. Raises DBAPIError."""
    with database.reading() as connection:
        try:
            return read_identity(through(connection), database.engine.url)
        except NoIdentity as error:
            fail(str(error), USAGE)


@contextlib.contextmanager
def _redis() -> Iterator[DatabaseRegister]:
    """Yield the register; exit if Redis fails. Raises SettingsError, UnusableFolder."""
    settings = load_command_settings()
    register = DatabaseRegister(attempts_url(settings), Keys(settings.key_prefix))
    try:
        yield register
    except RedisError as error:
        fail(
            f"The Redis at ENROLL_BROKER_URL cannot be used: {error}. Check that it is running,"
            " that the URL is right, and that its user is operator (docs/access.md).",
            UNREACHABLE,
        )


def _confirmed(yes: bool) -> bool:
    if yes or click.confirm("Continue?", err=True):
        return True
    print_message("Nothing was changed.")
    return False


def _done(identity: DatabaseIdentity, as_json: bool, sentence: str) -> int:
    print_message(sentence)
    if as_json:
        click.echo(identity.model_dump_json())
    return 0
