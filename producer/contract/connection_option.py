"""Define the options of all commands that say where the deployment is.

They may stand before the name of the command, too. The commands of both sides have them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource


class ConnectionOption(click.Option):
    """An option that may stand before the command's name, after it, or in both places.

    It is a usage error if it is given more than once with different values. The message does not
    quote them, because a URL may hold a password.
    """

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:  # noqa: ARG002 - click's form
        """Let the parser collect all values, so that `consume_value` can compare them."""
        parser.add_option(obj=self, opts=self.opts, dest=self.name, action="append", nargs=1)

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """Return the value that was given before or after the command's name, or the default."""
        own = dict(opts)
        values = list(own.pop(self.name, ()))
        root = ctx.find_root()
        if root is not ctx and is_given(root, self.name):
            values.append(root.params[self.name])
        if not values:
            return super().consume_value(ctx, own)
        first, *others = [self.type_cast_value(ctx, value) for value in values]
        if any(other != first for other in others):
            raise click.UsageError(
                f"{self.opts[0]} is given twice, with different values; give it once.", ctx
            )
        return super().consume_value(ctx, {**own, self.name: values[0]})


def is_given(context: click.Context, name: str) -> bool:
    """Return whether a parameter has its value from the command line."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


FOLDER_TYPE = click.Path(path_type=Path, file_okay=False)
FOLDER_HELP = "The folder of an `enroll up`; by default .enroll in this folder or one above it."

folder_option = click.option(
    "--folder",
    cls=ConnectionOption,
    envvar="ENROLL_FOLDER",
    show_envvar=True,
    type=FOLDER_TYPE,
    help=FOLDER_HELP,
)
