"""Define the options that say where the broker is, and find it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from producer.commands.terminal import tell
from producer.contract.connection_option import (
    FOLDER_HELP,
    FOLDER_TYPE,
    ConnectionOption,
    is_given,
)
from producer.contract.keys import check_key_prefix
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


def _checked_prefix(_context: click.Context, _option: click.Parameter, prefix: str) -> str:
    try:
        return check_key_prefix(prefix)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


_HELP = {
    "--broker": "The broker's URL. Put a URL with a password into the variable, because `ps` shows"
    " options.",
    "--result-backend": "The URL of the Redis for result keys and marks; by default the broker's.",
    "--key-prefix": "The prefix of every key of the deployment in Redis; by default there is none.",
    "--timeout": "Seconds to wait for a worker's answer.",
}
CONNECTION_NAMES = frozenset({"broker", "result_backend", "key_prefix", "folder", "timeout"})
"""The names of the connection options as parameters of a command."""

_SECONDS = click.FloatRange(0.1)


def _option(
    name: str, variable: str, **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name, cls=ConnectionOption, envvar=variable, show_envvar=True, help=_HELP[name], **more
    )


broker_option = _option("--broker", "ENROLL_BROKER_URL")
result_backend_option = _option("--result-backend", "ENROLL_RESULT_BACKEND_URL")
key_prefix_option = _option(
    "--key-prefix", "ENROLL_KEY_PREFIX", default="", callback=_checked_prefix
)
timeout_option = _option(
    "--timeout", "ENROLL_TIMEOUT", default=10.0, show_default=True, type=_SECONDS
)


def before_commands(group: Callable[..., Any]) -> Callable[..., Any]:
    """Let a group take the connection options before the name of the command.

    Variables and defaults are left to the command's own options.
    """
    options = {**_HELP, "--folder": FOLDER_HELP}
    for name in reversed(options):
        kind = {"--folder": FOLDER_TYPE, "--timeout": _SECONDS}.get(name)
        group = click.option(name, cls=ConnectionOption, type=kind, help=options[name])(group)
    return group


def refuse_foreign_options(context: click.Context, name: str, command: click.Command) -> None:
    """Raise UsageError if an option before the name of a command is not one of the command's."""
    for option in context.command.params:
        if is_given(context, str(option.name)) and not _has_option(context, command, option):
            raise click.UsageError(f"`enroll {name}` has no option {option.opts[0]}.", context)


def _has_option(context: click.Context, command: click.Command, option: click.Parameter) -> bool:
    if isinstance(command, click.Group):
        parts = (command.get_command(context, part) for part in command.list_commands(context))
        return any(_has_option(context, part, option) for part in parts if part is not None)
    return any(parameter.name == option.name for parameter in command.params)


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
