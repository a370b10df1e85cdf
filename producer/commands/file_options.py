"""Define the options of a command that say how its files are to be read."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from producer.commands.choices import Choice
from producer.files.describing import Choices
from producer.files.formats.registry import choice_of
from producer.schemas import Kind

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--kind",
        type=Choice([k.value for k in Kind]),
        help="The kind of the records; by default the header decides.",
    ),
    click.option(
        "--map",
        "maps",
        metavar="COLUMN=TEMPLATE",
        multiple=True,
        help="Make one of our columns from the file's own: --map course_sis_id='{module}-{term}'.",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="How the file stores its text, for example cp1252; UTF-8 and UTF-16 are recognized."
        " With auto, a file that is neither is read as cp1252.",
    ),
    click.option(
        "--format",
        "format_name",
        metavar="NAME",
        help="The system that the file comes from, if its header does not show it; see enroll"
        " formats. With plain, it is read as one of our own, and every line counts.",
    ),
    click.option(
        "--sections-are-one",
        is_flag=True,
        help="With --map, let several sections of another system become one course, and drop"
        " students from it.",
    ),
    click.option(
        "--moments-from-file",
        is_flag=True,
        help="Let each line count when it was last changed, as OneRoster files say in"
        " dateLastModified.",
    ),
    click.option(
        "--sheet",
        metavar="NAME",
        help="The sheet of an Excel workbook; by default the first visible one with a known"
        " header.",
    ),
    click.option(
        "--drop",
        is_flag=True,
        help="Drop the student of each line from its course; for CSV files of enrollments without a"
        " column action.",
    ),
)


def file_options(command: Function) -> Function:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def with_choices(command: Callable[..., int]) -> Callable[..., int]:
    """Pass what the options say to a command, as `choices`.

    It raises UsageError for a mapping that is not written as one, and UnreadableFile for a format
    that is not known.
    """

    @functools.wraps(command)
    def run(
        *args: Any,
        kind: str | None,
        maps: Sequence[str],
        encoding: str | None,
        format_name: str | None,
        sections_are_one: bool,
        moments_from_file: bool,
        sheet: str | None,
        drop: bool,
        **others: Any,
    ) -> int:
        choice = choice_of(
            format_name, sections_are_one=sections_are_one, moments_from_file=moments_from_file
        )
        templates = dict(map(_template, maps))
        own_kind = Kind(kind) if kind else None
        choices = Choices(own_kind, templates, encoding, drop, choice, sheet)
        return command(*args, choices=choices, **others)

    return run


def _template(text: str) -> tuple[str, str]:
    column, equals, template = text.partition("=")
    if not equals or not template:
        raise click.UsageError(
            f"--map {text}: write it as COLUMN=TEMPLATE, for example sis_id='{{id}}'."
        )
    return column.strip(), template
