"""Find the broker that a command is to use."""

from pathlib import Path
from typing import NamedTuple

import click

from producer.commands.terminal import tell
from producer.contract.connection_option import is_given
from producer.contract.stack_folder import (
    BROKER_ORDER,
    StackState,
    UnusableFolder,
    find_stacks,
    given_folder,
    open_stack,
)


class Broker(NamedTuple):
    """Which broker a command uses."""

    url: str
    result_backend_url: str | None
    key_prefix: str
    ignored: tuple[str, ...] = ()
    """A sentence for each folder of `enroll up` that could have been meant, and why it is not."""


def find_broker(context: click.Context) -> Broker:
    """Return the broker that a command is to use; docs/settings.md explains the order.

    A folder gives the whole connection: the variables for other parts of it do not count. Raises
    UsageError.
    """
    given = context.params
    if is_given(context, "broker") and is_given(context, "folder"):
        raise click.UsageError("Give either --broker or --folder: each names a broker.")
    if given["broker"] and not is_given(context, "folder"):
        return Broker(given["broker"], given.get("result_backend"), given["key_prefix"])
    if given["folder"] is not None:
        return _of_folder(context, given_folder(given["folder"]))
    found = find_stacks(Path.cwd())
    for sentence in found.ignored:
        tell(sentence)
    if found.running is None or found.state is None:
        stopped = f" No `enroll up` is running in {found.stopped}." if found.stopped else ""
        raise click.UsageError(
            "The broker's URL is missing: pass --broker or set ENROLL_BROKER_URL, or run"
            f" `enroll up` in this folder or one above it.{stopped} The order is: {BROKER_ORDER}."
        )
    return _of_stack(context, found.running, found.state, found.ignored)


def _of_folder(context: click.Context, folder: Path) -> Broker:
    try:
        return _of_stack(context, folder, open_stack(folder), ())
    except UnusableFolder as error:
        raise click.UsageError(str(error)) from None


def _of_stack(
    context: click.Context, folder: Path, state: StackState, ignored: tuple[str, ...]
) -> Broker:
    prefix = context.params.get("key_prefix")
    if is_given(context, "key_prefix") and prefix != state.key_prefix:
        raise click.UsageError(
            f"--key-prefix {prefix!r} is not that of the `enroll up` in {folder}, which is"
            f" {state.key_prefix!r}. Leave the option out."
        )
    if is_given(context, "result_backend"):
        raise click.UsageError(
            f"The `enroll up` in {folder} has its own result backend; leave --result-backend out."
        )
    return Broker(state.broker_url, None, state.key_prefix, ignored)
