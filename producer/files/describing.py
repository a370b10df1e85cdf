"""Describe a file by its first lines: how it stores its text, its header, and its kind."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple

from producer.contract.file_form import FileForm
from producer.errors import UnreadableFile
from producer.fields import MAX_CHUNK_BYTES
from producer.files.columns import wanted_columns
from producer.files.containers import Container, Content
from producer.files.delimited import delimited_layout
from producer.files.formats.base import folded
from producer.files.formats.layouts import find_table, table_layout
from producer.files.formats.mapped import find_mapped, mapped_layout
from producer.files.formats.registry import FormatChoice, recognize
from producer.files.json_lines import json_lines_layout
from producer.files.layout import FileLayout
from producer.files.notices import Notices
from producer.files.shorten import shorten
from producer.files.text_form import (
    AUTO,
    FALLBACK,
    UTF8,
    TextForm,
    find_form,
    find_not_utf8,
    known_encoding,
    plain_encoding,
)
from producer.files.workbooks import WORKBOOK_ERROR
from producer.schemas import Kind

HEAD_BYTES = 65_536
_SCHOOLS = {"sis id", "name"}
"""The columns of a list of schools; also those of a roster of ours, whose name decides nothing."""


class Choices(NamedTuple):
    """What the submitter says about a file.

    If `kind` is None, the header decides. `templates` maps one of our columns to a template over
    the file's own columns, for example `{code_module}-{code_presentation}`. `encoding` is a name
    such as `cp1252`; without it, the text is UTF-16 or UTF-32 if it looks like that, and
    otherwise UTF-8. With `auto`, the whole file is read, and it is cp1252 if none of these fits.
    With `drop`, every line of the CSV file, whose pairs must be enrollments, is a drop. `sheet`
    names the sheet of a workbook; without it, the first visible one with a header is read.
    """

    kind: Kind | None = None
    templates: Mapping[str, str] = MappingProxyType({})
    encoding: str | None = None
    drop: bool = False
    format: FormatChoice = FormatChoice()
    sheet: str | None = None

    def is_header(self, names: Sequence[str]) -> bool:
        """Return whether these are the names of columns of a table that can be read."""
        plain = list(map(folded, names))
        if self.format.format is not None:
            return self.format.format.table_of(plain) is not None
        return wanted_columns(names, self.templates) > 1 or recognize(plain) is not None


NO_CHOICES: Final = Choices()
"""A submitter says nothing, and the file itself decides."""


class FirstLines(NamedTuple):
    """The first lines of a file as text, how the file stores text, and what was noticed."""

    text: str
    form: TextForm
    notices: Notices

    @property
    def is_json(self) -> bool:
        """Return whether the file is JSON Lines."""
        return self.text.lstrip().startswith("{")


def layout_of(
    content: Content,
    raw: bytes,
    choices: Choices,
    *,
    whole: bool,
) -> FileLayout:
    """Describe a file whose first bytes are `raw`; if `whole`, read the rest of it as well."""
    check_sheet(content, choices)
    first = read_first_lines(content, raw, choices.encoding, whole=whole)
    layout = describe(content.name, first, choices)
    if whole and content.packed:
        read_to_end(content.file)  # Damage is found before anything is published.
    named = layout.named
    return layout._replace(
        read=lambda file: layout.read(first.form.as_utf8(file)),
        named=named and (lambda file: named(first.form.as_utf8(file))),
        form=sent_form(first.form, raw, layout.form),
    )


def check_sheet(content: Content, choices: Choices) -> None:
    """Raise UnreadableFile if a sheet is chosen of a file that is no workbook."""
    if choices.sheet is not None and content.container is not Container.WORKBOOK:
        raise UnreadableFile(
            f"{content.name} is not an Excel workbook, so no sheet of it can be chosen; leave the"
            " sheet out.",
            "sheet",
        )


def read_first_lines(
    content: Content, raw: bytes, encoding: str | None, *, whole: bool
) -> FirstLines:
    """Return the text of the first bytes of a file, `raw`. Raises UnreadableFile if it is not text.

    `encoding` is that of `Choices`. For `auto`, the rest of the file is read if `whole`.
    """
    name = content.name
    is_auto = encoding is not None and encoding.lower() == AUTO
    chosen = None if encoding is None or is_auto else known_encoding(encoding)
    notices = content.notices or Notices()
    if content.container is Container.WORKBOOK:
        form, head = find_form(name, raw, None)
        form = form._replace(problem=WORKBOOK_ERROR)
        return FirstLines(head, form, notices)
    form, head = find_form(name, raw, chosen)
    if is_auto and form.encoding == UTF8 and not form.marked:
        form = form._replace(guessed=not whole)
        bad = find_not_utf8(raw, content.file) if whole else None
        if bad is not None:
            form, head = find_form(name, raw, FALLBACK)
            notices.add(
                f"{name} is not UTF-8 (first seen in line {bad[0]:,}), and is read as {FALLBACK}:"
                f" {shorten(bad[1])}. If that looks wrong, choose another encoding."
            )
    elif chosen is not None and not chosen.startswith(form.encoding[:6]):
        mark = form.encoding.removesuffix("-sig")
        notices.add(f"{name} begins with the byte order mark of {mark}, and is read as that.")
    if not head.strip("\ufeff \t\r\n"):
        raise UnreadableFile(
            f"{name} is empty; submit a CSV file with a header line, or JSON Lines."
        )
    return FirstLines(head, form, notices)


def describe(
    name: str, first: FirstLines, choices: Choices, *, goes_on: bool = False
) -> FileLayout:
    """Describe a file, which is then read in UTF-8, by its first lines. Raises UnreadableFile.

    `goes_on` is set if the last of the first lines may not be whole.
    """
    layout = _described(name, first, choices, goes_on=goes_on)
    if layout.form is None or not choices.format.sections_are_one:
        return layout
    form = layout.form.model_copy(update={"sections_are_one": True})
    return layout._replace(form=form)


def _described(name: str, first: FirstLines, choices: Choices, *, goes_on: bool) -> FileLayout:
    """Describe a file, with a form that lacks what was said of its sections."""
    with _naming_encoding(first.form.encoding, chosen=choices.encoding is not None):
        _check_choices(name, choices)
        about = (name, first.notices, first.form.undecodable)
        if not first.is_json:
            layout = _other_system(about, first.text, choices, goes_on=goes_on)
            if layout is not None:
                return layout
        if choices.format.moments_from_file:
            raise _without_moments(name)
        read_layout = json_lines_layout if first.is_json else delimited_layout
        layout = read_layout(
            name,
            choices.kind,
            choices.templates,
            first.text,
            first.notices,
            first.form.undecodable,
            drop=choices.drop,
            goes_on=goes_on,
        )
        if choices.kind is None and set(map(folded, layout.columns or ())) == _SCHOOLS:
            first.notices.add(
                f"{name} is read as a roster of students. If these are the schools of School Data"
                " Sync, do not submit them; they are not needed."
            )
        if layout.form is not None and choices.format.is_plain:
            form = layout.form.model_copy(update={"format": choices.format.name})
            layout = layout._replace(form=form)
        return layout


_About = tuple[str, Notices, str]
"""The name of a file, the notices about it, and what is wrong with an undecodable cell."""


def _other_system(
    about: _About, head: str, choices: Choices, *, goes_on: bool
) -> FileLayout | None:
    """Describe a file of another system by its first lines; return None for one of our own."""
    name, notices, undecodable = about
    found = find_table(name, head, choices.kind, choices.templates, choices.format)
    if found is not None:
        return table_layout(
            name,
            found,
            notices,
            undecodable,
            choices.format,
            drop=choices.drop,
            goes_on=goes_on,
        )
    mapped = find_mapped(name, head, choices.templates, choices.format, drop=choices.drop)
    if mapped is None:
        return None
    if choices.format.moments_from_file:
        raise UnreadableFile(
            f"{name}: with a mapping, the moments of its lines come from the column that is mapped"
            " to as_of; map the column, or leave the mapping out.",
            "map",
            "moments-from-file",
        )
    return mapped_layout(
        name,
        mapped,
        choices.kind,
        notices,
        undecodable,
        drop=choices.drop,
        sections_are_one=choices.format.sections_are_one,
        goes_on=goes_on,
    )


def _check_choices(name: str, choices: Choices) -> None:
    """Raise UnreadableFile for a mapping of columns that a format knows."""
    chosen = choices.format.format
    if chosen is None or not choices.templates:
        return
    raise UnreadableFile(
        f"{name}: a mapping cannot be used together with the format {chosen.title}, whose columns"
        " are known. To read the file with these columns, leave the mapping out. To map columns,"
        " leave the format out; the roles and statuses of a file that is recognized still count.",
        "format",
        "map",
    )


def _without_moments(name: str) -> UnreadableFile:
    return UnreadableFile(
        f"{name} does not say when its lines were last changed, or is of a system whose times are"
        " not read. To give lines a time of your own, write it into a column as_of; otherwise leave"
        " out the option that takes moments from the file.",
        "moments-from-file",
    )


def sent_form(text_form: TextForm, raw: bytes, form: FileForm | None) -> FileForm | None:
    """Return the form of a CSV file with what was found in its first bytes."""
    if form is None:
        return None
    encoding, bom = plain_encoding(text_form.encoding, raw)
    line_end = "\r" if text_form.old_line_ends else form.line_end
    return form.model_copy(update={"encoding": encoding, "bom": bom, "line_end": line_end})


@contextmanager
def _naming_encoding(encoding: str, *, chosen: bool) -> Iterator[None]:
    """Add the encoding to an error about the first lines, unless it is UTF-8.

    If the submitter has `chosen` it, another choice may help.
    """
    try:
        yield
    except UnreadableFile as error:
        if encoding == UTF8:
            raise
        options = (*error.options, "encoding") if chosen else error.options
        raise UnreadableFile(f"{error} The text was read as {encoding}.", *options) from None


def read_to_end(file: BinaryIO) -> None:
    """Read what is left of a packed file. Raises UnreadableFile if it is damaged or a bomb."""
    while file.read(1 << 20):
        pass


def first_bytes(file: BinaryIO) -> bytes:
    """Read the first lines, up to the end of a line if that is near."""
    return file.read(HEAD_BYTES) + file.readline(MAX_CHUNK_BYTES)
