"""`enroll completion`: what a shell runs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """
\b
Examples:
  eval "$(enroll completion bash)"
  enroll completion zsh > ~/.zfunc/_enroll
  enroll completion fish > ~/.config/fish/completions/enroll.fish
"""


@click.command(epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which bash, zsh or fish completes `enroll`."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - each of SHELLS is one that click knows
    script = found(context.find_root().command, {}, "enroll", "_ENROLL_COMPLETE")
    click.echo(script.source())
