"""Read a file of another system whose columns are mapped: its roles and statuses still count.

Only the columns that are mapped are read differently. A file of a system whose exports have no
roles is read as one of ours.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from typing import BinaryIO, NamedTuple

from producer.contract.printable import printable
from producer.errors import UnreadableFile
from producer.files.cells import pair_reader, record_reader
from producer.files.columns import (
    ACTION,
    AS_OF,
    COLUMNS,
    COURSE_COLUMNS,
    STUDENT_COLUMNS,
    ColumnReader,
    choose_columns,
    column_readers,
    columns_read,
    kind_of,
    plain_name,
)
from producer.files.delimited import Header, find_header, mapped_form, without_guards
from producer.files.formats.base import Format, Members, Shape, Table, folded
from producer.files.formats.dates import time_zone
from producer.files.formats.judged_rows import JudgedRows
from producer.files.formats.judging import Tally, judge_of
from producer.files.formats.layouts import is_ours, name_sent, notice_everyone
from producer.files.formats.registry import FormatChoice, recognize
from producer.files.formats.secrets import without_passwords
from producer.files.formats.table_reader import find_columns
from producer.files.layout import NOT_ALL_DROPS, FileLayout, Lines
from producer.files.notices import Notices
from producer.files.raw_bytes import storable
from producer.files.refused_lines import GUARDED, LINE
from producer.files.roster_notices import noticing_values
from producer.files.rows import RowReader
from producer.files.second_header import refuse_below_others
from producer.publishing.dating import moment_of_batch
from producer.schemas import Kind

_IN_NUMBERED = re.compile(r"(role|type|enrolstatus)[0-9]{1,4}|deleted")
"""Columns of a line with several courses that say who is a student, and what is a drop."""

_AS_OURS = "write plain as the format if every line is meant to count, whatever these columns say"


class Mapped(NamedTuple):
    """A file of another system whose columns are mapped."""

    format: Format
    table: Table
    header: Header
    templates: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """Return the names in the header, folded."""
        return list(map(folded, self.header.names))

    @property
    def coarse(self) -> str | None:
        """Return the column of the sections if the mapped course is made without it."""
        mapped = [name for name in COURSE_COLUMNS if name in self.templates]
        sections = self.table.columns.get(COURSE_COLUMNS[0], ())[:1]
        used = columns_read(mapped, self.templates)
        for section in sections:
            if isinstance(section, str) and section in self.names and mapped:
                name = self.header.names[self.names.index(section)]
                return None if plain_name(name) in used else name
        return None


def find_mapped(
    path: str,
    head: str,
    templates: Mapping[str, str],
    choice: FormatChoice,
    *,
    drop: bool,
) -> Mapped | None:
    """Return what is known of a mapped file by its first lines, if not each of its lines counts.

    Returns None for a file that is read as one of our own. Raises UnreadableFile if its lines
    cannot be told apart, or if all of them are about people who are not students.
    """
    if not templates or choice.is_plain:
        return None
    header = find_header(path, head, templates)
    names = list(map(folded, header.names))
    known = None if is_ours(header.names, names) else recognize(names)
    if known is None:
        return None
    format_, first = known
    table = format_.table_alone(name_sent(path, choice), names) or first
    if table.is_shared and not table.is_named(name_sent(path, choice)):
        _check_name(path, format_, names)
    mapped = Mapped(format_, table, header, templates)
    shows_roles = any(name in names for name in table.rule.roles)
    problem = _problem_of(mapped, shows_roles=shows_roles)
    if problem is not None:
        raise UnreadableFile(
            f"{path} holds {table.name} of {format_.title}{problem}, or {_AS_OURS}.",
            "map",
            "format",
        )
    if shows_roles or format_.shows_roles:
        return mapped
    is_drop = drop or ACTION in templates or ACTION in map(plain_name, header.names)
    if is_drop and mapped.coarse is not None and not choice.sections_are_one:
        raise UnreadableFile(f"{path}: {_too_coarse(mapped.coarse)}.", "map", "sections-are-one")
    return None


def _check_name(path: str, format_: Format, names: Sequence[str]) -> None:
    """Raise UnreadableFile if a header may also be that of a file about staff.

    Files that share their columns are told apart by their names alone.
    """
    tables = [table for table in format_.tables if table.recognizes(names)]
    if any(table.is_staff for table in tables):
        usual = " or ".join(table.file_names[0] for table in tables)
        raise UnreadableFile(
            f"{path} has the columns of several files of {format_.title}, and only the name of the"
            f" file can tell whether it holds {' or '.join(table.name for table in tables)}; submit"
            f" it under its own name ({usual}), or {_AS_OURS}.",
            "format",
            "map",
        )


def _problem_of(mapped: Mapped, *, shows_roles: bool) -> str | None:
    """Return why the columns of a file cannot be mapped, with a part of the remedy, or None."""
    table, names = mapped.table, mapped.names
    if table.is_staff:
        return ", and no line of it is about a student. Submit another file"
    if table.shape is not Shape.PAIR:
        telling = [name for name in names if _IN_NUMBERED.fullmatch(name)]
        if telling or table.shape is Shape.OPERATION:
            return (
                ", whose lines say themselves who is a student and what is a drop, so its columns"
                " cannot be mapped. Submit it without a mapping"
            )
        return None
    needs_roles = table.kind is Kind.ENROLLMENTS and table.rule.roles
    is_told_elsewhere = table.members is Members.STUDENTS and LINE not in names
    if not shows_roles and (needs_roles or is_told_elsewhere):
        return (
            ", but does not show who is a student. Export it with a column"
            f" {(table.rule.roles or ('role',))[-1]}, or submit the whole package without a mapping"
        )
    return None


def _too_coarse(section: str) -> str:
    return (
        f"the course is made without {section[:60]}, so that several sections may become one"
        " course. A student who moves to another section would be dropped from it. Make the course"
        f" from {section[:60]}, or say that the sections of a course are one"
    )


def mapped_layout(
    path: str,
    mapped: Mapped,
    kind: Kind | None,
    notices: Notices,
    undecodable: str,
    *,
    drop: bool,
    sections_are_one: bool,
    goes_on: bool,
) -> FileLayout:
    """Describe a file that was found by `find_mapped`. Raises UnreadableFile."""
    format_, table, header, templates = mapped
    kind, readers, shown = _columns(path, mapped, kind)
    if drop or ACTION in readers:
        raise UnreadableFile(
            f"{path} holds {table.name} of {format_.title}, whose lines say which of them are"
            f" drops; {NOT_ALL_DROPS} and without a column {ACTION}, or {_AS_OURS}.",
            "drop",
            "format",
        )
    used = _used(mapped, readers, shown)
    row_reader = header.row_reader(path, undecodable)
    coarse = None if sections_are_one else mapped.coarse
    passed_over: Counter[str] = Counter()
    reading = _Reading(
        path, mapped, kind, readers, shown, used, row_reader, notices, coarse, passed_over
    )
    if not header.rows_follow and not goes_on:
        notices.add(f"{path} has a header but no rows.")
    about = {name: templates.get(name) or shown[name] for name in readers}
    return FileLayout(
        kind,
        partial(reading.read, time_zone()),
        notices,
        row_reader.account,
        storable(header.names),
        mapped_form(header.form, templates),
        {name: printable(text) for name, text in about.items()},
        header_line=header.first,
        source=f"{table.name} of {format_.title}" if kind is table.kind else kind.value,
        system=format_.title,
        passed_over=passed_over,
        used=tuple(name for name in header.names if plain_name(name) in used),
    )


def _used(mapped: Mapped, ours: Iterable[str], shown: Mapping[str, str]) -> set[str]:
    """Return the plain names of the columns that are read for these columns of ours."""
    rule, templates = mapped.table.rule, mapped.templates
    used = columns_read([name for name in ours if name in templates], templates)
    used |= {plain_name(shown[name]) for name in ours if name not in templates}
    return used | {plain_name(n) for n in (*rule.roles, rule.status) if n in mapped.names}


def _columns(
    path: str, mapped: Mapped, kind: Kind | None
) -> tuple[Kind, dict[str, ColumnReader], Mapping[str, str]]:
    """Return the kind of the records, the readers of our columns, and what they are read from.

    Columns that are not mapped are those of the format. Raises UnreadableFile.
    """
    _, table, header, templates = mapped
    own = column_readers(path, header.names, templates)
    if kind is None and templates.keys() - {AS_OF}:
        kind = kind_of(path, own, header.first_line, header.looks_like, templates)
    kind = kind or table.kind or Kind.ENROLLMENTS
    shown = {plain_name(name): name for name in reversed(header.names)}
    if kind is table.kind:
        known = find_columns(path, table, header.names, mapped.names)
        shown = shown | dict(known.shown)
        readers = {name: read for name, read in known.readers.items() if name not in templates}
        for group in (STUDENT_COLUMNS, COURSE_COLUMNS):
            if any(name in templates for name in group):
                readers = {name: read for name, read in readers.items() if name not in group}
        own = readers | {name: own[name] for name in templates if name in COLUMNS[kind]}
    chosen = choose_columns(path, kind, () if kind is table.kind else header.names, own, templates)
    return kind, chosen, shown


class _Reading(NamedTuple):
    """What is needed to read a mapped file."""

    path: str
    mapped: Mapped
    kind: Kind
    readers: Mapping[str, ColumnReader]
    shown: Mapping[str, str]
    used: set[str]
    row_reader: RowReader
    notices: Notices
    coarse: str | None
    passed_over: Counter[str]

    def read(self, zone: tzinfo, file: BinaryIO) -> Lines:
        """Yield the records of a file; then add notices about its lines as a whole."""
        header, names = self.mapped.header.names, self.mapped.names
        self.passed_over.clear()
        tally = Tally(self.passed_over)
        today = moment_of_batch().astimezone(zone).date()
        judge = judge_of(self.mapped.table.rule, names, today, zone)
        rows = without_passwords(self.row_reader.read(file), header)
        if self.mapped.header.is_guarded:
            rows = without_guards(rows, header.index(GUARDED))
        rows = refuse_below_others(rows, self.row_reader, header, self.used, self._telling(names))
        shown = {name: self.shown[name] for name in self.readers if name not in self._templates}
        no_drops = None if self.coarse is None else (self._course(), _too_coarse(self.coarse))
        judged = JudgedRows(judge, self.row_reader.account, tally, shown, no_drops)
        if self.kind is Kind.ENROLLMENTS:
            yield from judged.requests(rows, pair_reader(self.readers))
        else:
            records = judged.roster(rows, record_reader(self.kind, self.readers))
            yield from noticing_values(self.path, records, self.notices)
        notice_everyone(self.path, self.mapped.table, names, self.notices)
        is_snapshot = self.notices.is_snapshot
        for sentence in tally.sentences(self.path, is_snapshot=is_snapshot):
            self.notices.add(sentence)

    @property
    def _templates(self) -> Mapping[str, str]:
        return self.mapped.templates

    def _course(self) -> str:
        return next(name for name in COURSE_COLUMNS if name in self.readers)

    def _telling(self, names: Sequence[str]) -> int | None:
        """Return the position of the column of roles, in which a second header shows itself."""
        roles = self.mapped.table.rule.roles
        return next((names.index(name) for name in roles if name in names), None)
