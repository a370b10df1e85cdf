"""Print text to a terminal. All output of the commands goes through this module.

Names, ids, cells, file names and a worker's texts come from outside. Characters in them that a
terminal would obey, or would not show, are escaped here, so that no command has to do it.
"""

from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from producer.contract.printable import json_line, printable


def safe(text: object) -> str:
    """Return a text as one line that is safe to print."""
    return printable(str(text))


def one_line(*parts: str | tuple[str, str]) -> Text:
    """Return a line of text; a part may have a style."""
    safe_parts = [safe(p) if isinstance(p, str) else (safe(p[0]), p[1]) for p in parts]
    return Text.assemble(*safe_parts)


def tell(sentence: str) -> None:
    """Print a message on standard error, in one line."""
    click.echo(safe(sentence), err=True)


def print_json(data: Any) -> None:
    """Print data as one line of JSON."""
    click.echo(json_line(data))


class SafeConsole(Console):
    """A console that prints text unchanged except for escapes.

    An id such as `[red]` or `:x:` is not markup.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape a string before it is laid out."""
        return super().render_str(safe(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what is printed; a `Text` that `one_line` did not make is escaped only here."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, keep="\n"), segment.style)


def make_console(*, stderr: bool = False) -> Console:
    """Create a console for the output or the messages of a command."""
    console = SafeConsole(stderr=stderr)
    # A pipe has no width; lines for a program to read must not be folded at 80 columns.
    return console if console.file.isatty() else SafeConsole(stderr=stderr, width=200)
