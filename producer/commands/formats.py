"""Define `enroll formats`, which lists the systems whose files can be read as they are."""

import click

from producer.commands import display
from producer.commands.terminal import make_console, print_json
from producer.contract.exit_codes import exit_codes
from producer.files.formats.base import Format
from producer.files.formats.registry import FORMATS, PLAIN_FORMAT
from producer.schemas import Kind

EXAMPLES = """
\b
Examples:
  enroll formats
  enroll submit export.zip
  enroll submit --format canvas enrollments.csv
"""

_PLAIN = "none: a file of your own"


@click.command(epilog=exit_codes() + EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def formats(as_json: bool) -> None:
    """List the systems whose files are read as they are.

    A file is recognized by its header, and a package by its files; if that fails, name the format
    with --format. With the format plain, a file is read as one of our own, whatever its header is.
    """
    if as_json:
        for known in FORMATS:
            print_json({"name": known.name, "title": known.title, "files": _files(known)})
        print_json({"name": PLAIN_FORMAT, "title": _PLAIN, "files": [kind.value for kind in Kind]})
        return
    rows = [(known.name, known.title, ", ".join(_files(known))) for known in FORMATS]
    rows.append((PLAIN_FORMAT, _PLAIN, "every line, by our own columns or a mapping"))
    make_console().print(display.table(["format", "system", "what is read"], rows))


def _files(known: Format) -> list[str]:
    """Return what is read of a format, in the order of its submission."""
    kinds = list(Kind)
    read = [table for table in known.tables if table.kind is not None]
    read.sort(key=lambda table: kinds.index(table.kind) if table.kind else 0)
    return list(dict.fromkeys(table.name for table in read))
