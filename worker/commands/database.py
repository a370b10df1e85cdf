"""Implement `enroll database`: show, accept and renew the identity of the database."""

import contextlib
from collections.abc import Iterator

import click
from redis.exceptions import RedisError

from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.identity import DatabaseIdentity
from producer.contract.keys import Keys
from worker.commands.location import load_command_settings
from worker.commands.results import changing_results
from worker.commands.session import (
    confirmed,
    fail,
    print_json,
    print_message,
    print_table,
    with_database,
    yes_option,
)
from worker.database.ask import through
from worker.database.engine import Database
from worker.database.identity import NoIdentity, read_identity, renew_identity
from worker.messaging.celery_settings import attempts_url
from worker.messaging.registration import DatabaseRegister

ABOUT = """
Works on the database at ENROLL_DATABASE_URL and the Redis at ENROLL_BROKER_URL, or on those of
`enroll up`; run it as the operator.
"""
NOT_USABLE = "the database or Redis cannot be used"
SHOW_CODES = exit_codes(refused="the workers use another database", unreachable=NOT_USABLE)
CHANGE_CODES = exit_codes(
    refused="nothing was changed, because the answer was no", unreachable=NOT_USABLE
)
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


@click.group(epilog=ABOUT + EXAMPLES)
def database() -> None:
    """Show or change which database the workers of a Redis use.

    A worker registers its database in Redis, and refuses to start if another one is registered.
    """


@database.command(epilog=ABOUT + SHOW_CODES + SHOW_EXAMPLES)
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
            print_json({"which": which, "identity": identity})
    else:
        table = [
            (which, i.place, i.id, i.number, i.cluster) if i else (which, "none is registered")
            for which, i in rows.items()
        ]
        print_table(("", "database", "identity", "number", "cluster"), table)
    is_same = registered is None or own.is_same(registered)
    return ExitCode.DONE if is_same else ExitCode.REFUSED


@database.command(epilog=ABOUT + CHANGE_CODES + ACCEPT_EXAMPLES)
@yes_option
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
        if not confirmed(yes, verb="changes which database they use"):
            return ExitCode.REFUSED
        with changing_results():
            register.replace(own)
    return _done(own, as_json, "Accepted. Start the workers with this database.")


@database.command(epilog=ABOUT + CHANGE_CODES + RENEW_EXAMPLES)
@yes_option
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
    if not confirmed(yes, verb="replaces the identity"):
        return ExitCode.REFUSED
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
            fail(str(error), ExitCode.USAGE)


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
            ExitCode.UNREACHABLE,
        )


def _done(identity: DatabaseIdentity, as_json: bool, sentence: str) -> int:
    print_message(sentence)
    if as_json:
        print_json(identity)
    return ExitCode.DONE
