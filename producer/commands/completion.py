"""Define `enroll completion`, which prints the script that completes commands and options."""

import click
from click.shell_completion import get_completion_class

from producer.commands.choices import Choice
from producer.contract.exit_codes import exit_codes

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """
\b
Examples:
  eval "$(enroll completion bash)"
  enroll completion zsh > ~/.zfunc/_enroll
  enroll completion fish > ~/.config/fish/completions/enroll.fish
"""


@click.command(epilog=exit_codes() + EXAMPLES)
@click.argument("shell", type=Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    The script makes bash, zsh or fish complete `enroll`.
    """
    completion_class = get_completion_class(shell)
    assert completion_class is not None  # noqa: S101 - click supports all of SHELLS
    script = completion_class(context.find_root().command, {}, "enroll", "_ENROLL_COMPLETE")
    click.echo(script.source())
