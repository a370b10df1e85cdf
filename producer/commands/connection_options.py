"""Define the options that say where the deployment is.

The command `enroll` itself has them, too, so this module imports little.
"""

from collections.abc import Callable
from typing import Any

import click

from producer.contract.connection_option import (
    FOLDER_HELP,
    FOLDER_TYPE,
    ConnectionOption,
    folder_option,
    is_given,
)
from producer.contract.keys import check_key_prefix


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


key_prefix_option = _option(
    "--key-prefix", "ENROLL_KEY_PREFIX", default="", callback=_checked_prefix
)
_CONNECTION_OPTIONS = (
    _option("--broker", "ENROLL_BROKER_URL"),
    _option("--result-backend", "ENROLL_RESULT_BACKEND_URL"),
    key_prefix_option,
    folder_option,
)


def connection_options(
    timeout_name: str = "--timeout",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command take all connection options; `find_broker` reads them from its context.

    `timeout_name` is the name of the option for the wait for a worker.
    """
    timeout_option = click.option(
        timeout_name,
        "timeout",
        cls=ConnectionOption,
        envvar="ENROLL_TIMEOUT",
        show_envvar=True,
        default=10.0,
        show_default=True,
        type=_SECONDS,
        help=_HELP["--timeout"],
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (timeout_option, *reversed(_CONNECTION_OPTIONS)):
            command = option(command)
        return command

    return decorate


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
        if not is_given(context, str(option.name)) or _has_option(context, command, option):
            continue
        spelling = option.opts[0]
        if any(spelling in other.opts for other in command.params):
            raise click.UsageError(
                f"{spelling} means something else in `enroll {name}`; write it after the name of"
                " the command.",
                context,
            )
        raise click.UsageError(f"`enroll {name}` has no option {spelling}.", context)


def _has_option(context: click.Context, command: click.Command, option: click.Parameter) -> bool:
    if isinstance(command, click.Group):
        parts = (command.get_command(context, part) for part in command.list_commands(context))
        return any(_has_option(context, part, option) for part in parts if part is not None)
    return any(
        parameter.name == option.name and option.opts[0] in parameter.opts
        for parameter in command.params
    )
