"""Find the database that an operator's command works on, and the Redis that belongs to it."""

import os
import shlex
from pathlib import Path
from typing import NamedTuple

import click

from producer.contract import stack_folder
from producer.contract.connection_option import is_given
from producer.contract.stack_folder import DATABASE_ORDER, UnusableFolder
from worker.settings import Settings, SettingsError, load_database_url, load_settings

_META = "worker.commands.location"


class Location(NamedTuple):
    """Where the database is."""

    url: str
    folder: Path | None
    """The folder of `enroll up` that it is in."""
    notices: tuple[str, ...] = ()
    """Sentences that the user should see."""

    @property
    def name(self) -> str:
        """Return the name of the database, as the beginning of a sentence."""
        return (
            "The database at ENROLL_DATABASE_URL"
            if self.folder is None
            else f"The database in {self.folder}"
        )


def find_location(context: click.Context, folder: Path | None) -> Location:
    """Return where the database of a command is; docs/settings.md explains the order.

    `folder` is the value of --folder. Raises SettingsError, UnusableFolder.
    """
    is_named = is_given(context, "folder")
    if os.environ.get("ENROLL_DATABASE_URL") and not is_named:
        location = Location(load_database_url(), None)
    elif folder is not None:
        location = _location(stack_folder.given_folder(folder))
    else:
        location = _found_location()
    if location.folder is not None and not is_named:
        _require_same_broker(location.folder)
    context.meta[_META] = location
    return location


def load_command_settings() -> Settings:
    """Read the settings of the workers that use the database of the current command.

    Raises SettingsError, UnusableFolder.
    """
    location: Location = click.get_current_context().meta[_META]
    if location.folder is None:
        return load_settings()
    state = stack_folder.open_stack(location.folder)
    return load_settings(
        database_url=location.url,
        broker_url=state.broker_url,
        result_backend_url=state.broker_url,
        key_prefix=state.key_prefix,
    )


def _location(folder: Path, *notices: str) -> Location:
    stack_folder.require_private(folder)
    if not (folder / stack_folder.DATABASE).is_file():
        raise UnusableFolder(
            f"There is no database in {folder}. Make one: enroll up --folder"
            f" {shlex.quote(str(folder))}"
        )
    return Location(stack_folder.database_url(folder), folder, notices)


def _found_location() -> Location:
    found = stack_folder.find_stacks(Path.cwd())
    folder = found.running or found.stopped
    if folder is None:
        missing = (
            "ENROLL_DATABASE_URL: is not set. Set it, or name the folder of an `enroll up` with"
            f" --folder. The order is: {DATABASE_ORDER}."
        )
        raise SettingsError("\n".join([*found.ignored, missing]))
    return _location(folder, *found.ignored, f"Using the database of `enroll up` in {folder}.")


def _require_same_broker(folder: Path) -> None:
    """Raise SettingsError if ENROLL_BROKER_URL names another broker than the folder.

    Otherwise a command could change a database while its user has workers elsewhere in mind.
    """
    broker = os.environ.get("ENROLL_BROKER_URL")
    state = stack_folder.read_state(folder)
    if broker and (state is None or state.broker_url != broker):
        raise SettingsError(
            "ENROLL_DATABASE_URL: is not set, but ENROLL_BROKER_URL is, and it does not name the"
            f" broker of the `enroll up` in {folder}. Set both, or none, or name the folder with"
            " --folder."
        )
