"""List the formats, and recognize them."""

from collections.abc import Collection
from typing import NamedTuple

from producer.errors import UnreadableFile
from producer.files.formats.base import Format, Table
from producer.files.formats.canvas import CANVAS
from producer.files.formats.clever import CLEVER
from producer.files.formats.edx import EDX
from producer.files.formats.moodle import MOODLE_FLAT_FILE, MOODLE_USERS
from producer.files.formats.oneroster import ONEROSTER
from producer.files.formats.roles import Roles
from producer.files.formats.sds import SDS_1, SDS_2
from producer.files.formats.terms import Terms

FORMATS: tuple[Format, ...] = (
    CANVAS,
    ONEROSTER,
    CLEVER,
    SDS_2,
    SDS_1,
    MOODLE_FLAT_FILE,
    MOODLE_USERS,
    EDX,
)
"""In the order in which they are tried."""

PLAIN_FORMAT = "plain"
"""The name under which a file is read as one of our own, whatever system its header is from."""

DETECTED = tuple(known for known in FORMATS if known.is_detected)
"""Those that a header or a manifest shows."""


class FormatChoice(NamedTuple):
    """What is known of a file's format before its header is read.

    `table`, `roles` and `terms` are set for a file of a package. Without a `format`, the header
    decides. `file_name` is the name under which a file was sent, if that is not its name in
    messages. With `is_plain`, the file is read as one of our own, whatever its header says.

    With `sections_are_one`, columns may be mapped so that several sections are one course. With
    `moments_from_file`, each line counts when it was last changed, if the format says when.
    """

    format: Format | None = None
    table: Table | None = None
    roles: Roles | None = None
    terms: Terms | None = None
    file_name: str | None = None
    is_plain: bool = False
    sections_are_one: bool = False
    moments_from_file: bool = False

    @property
    def name(self) -> str | None:
        """Return the name of the format, if it is known."""
        if self.format is None:
            return PLAIN_FORMAT if self.is_plain else None
        return self.format.name


def format_named(name: str) -> Format:
    """Return the format of this name. Raises UnreadableFile."""
    for known in FORMATS:
        if known.name == name.strip().casefold():
            return known
    names = ", ".join([*(known.name for known in FORMATS), PLAIN_FORMAT])
    raise UnreadableFile(
        f"{name[:60]!a} is not the name of a format; choose from {names}.", "format"
    )


def choice_of(
    name: str | None,
    file_name: str | None = None,
    *,
    sections_are_one: bool = False,
    moments_from_file: bool = False,
) -> FormatChoice:
    """Return the choice of the format of this name, if there is one. Raises UnreadableFile."""
    is_plain = name is not None and name.strip().casefold() == PLAIN_FORMAT
    return FormatChoice(
        None if name is None or is_plain else format_named(name),
        file_name=file_name,
        is_plain=is_plain,
        sections_are_one=sections_are_one,
        moments_from_file=moments_from_file,
    )


def recognize(names: Collection[str]) -> tuple[Format, Table] | None:
    """Return the format and the table with a header of these names, folded; None if unknown."""
    for known in DETECTED:
        table = known.table_of(names)
        if table is not None:
            return known, table
    return None


def recognize_named(file_name: str, names: Collection[str]) -> tuple[Format, Table] | None:
    """Return the format and the table that a file's name, folded, shows together with its header.

    Such a header alone could be one of our own.
    """
    for known in DETECTED:
        for table in known.named_tables:
            if table.recognizes(names) and table.is_named(file_name):
                return known, table
    return None
