"""Describe a file of another system by its header."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, tzinfo
from functools import partial
from typing import BinaryIO, NamedTuple

from producer.contract.printable import printable
from producer.errors import UnreadableFile
from producer.files.cells import pair_reader
from producer.files.columns import COURSE_COLUMNS, STUDENT_COLUMNS, plain_name
from producer.files.delimited import Header, find_header, without_guards
from producer.files.formats.base import Format, Members, Shape, Table, folded
from producer.files.formats.dates import time_zone
from producer.files.formats.judged_rows import JudgedRows
from producer.files.formats.judging import Judge, Tally, judge_of
from producer.files.formats.moments import Moments, find_moments, with_moments
from producer.files.formats.naming import named_in_rows
from producer.files.formats.numbered import numbered_courses
from producer.files.formats.registry import (
    FormatChoice,
    choice_of,
    recognize,
    recognize_named,
)
from producer.files.formats.roles import Roles
from producer.files.formats.secrets import has_passwords, without_passwords
from producer.files.formats.table_reader import (
    Rows,
    TableColumns,
    TableReader,
    find_columns,
)
from producer.files.formats.terms import ClassEnds
from producer.files.formats.unread_status import noticing_status, status_columns
from producer.files.layout import NOT_ALL_DROPS, FileLayout, Lines, Named
from producer.files.notices import Notices
from producer.files.raw_bytes import storable
from producer.files.refused_lines import GUARDED, LINE
from producer.files.roster_notices import noticing_values
from producer.files.rows import RowReader
from producer.files.second_header import RowsOrBlocks, refuse_below_others, refuse_in_blocks
from producer.files.shorten import shorten
from producer.publishing.dating import moment_of_batch
from producer.schemas import Kind

_ALONE = "; submit it together with the other files of its export, as a zip archive or folder"


def find_table(
    path: str,
    head: str,
    kind: Kind | None,
    templates: Mapping[str, str],
    choice: FormatChoice,
) -> tuple[Format, Table, Header] | None:
    """Return the format and the table of a CSV file by its first lines; None if it is our own.

    Raises UnreadableFile if the file is not of the chosen format.
    """
    if choice.is_plain or (templates and choice.format is None):
        return None  # `mapped` reads a file of another system whose columns are mapped.
    found = find_header(path, head, {})
    names = list(map(folded, found.names))
    if choice.format is not None:
        table = choice.table or _table_alone(path, choice, choice.format, names)
        if table is None or table.kind is None:
            raise _not_of(path, choice.format, found)
        return choice.format, table, found
    if is_ours(found.names, names):
        return None
    known = recognize(names) or recognize_named(name_sent(path, choice), names)
    if known is None:
        return None
    if kind not in (None, known[1].kind):
        _check_kind(path, kind, known, found.names)
        return None
    format_ = known[0]
    table = _table_alone(path, choice, format_, names) or known[1]
    if table.kind is None:
        needed = " and ".join(dict.fromkeys(t.name for t in reversed(format_.tables) if t.kind))
        raise UnreadableFile(
            f"{path} holds {table.name} of {format_.title}, which are not needed here. Submit the"
            f" files of {needed.replace(' and ', ', ', needed.count(' and ') - 1)}."
        )
    return format_, table, found


def _check_kind(
    path: str, kind: Kind | None, known: tuple[Format, Table], header: Sequence[str]
) -> None:
    """Raise UnreadableFile for a file of another system that cannot be of the chosen kind."""
    format_, table = known
    if table.kind is not None and "sis_id" not in map(plain_name, header):
        raise UnreadableFile(
            f"{path} holds {table.name} of {format_.title}, and not {kind}; leave the kind out, or"
            " map its columns to ours.",
            "kind",
            "map",
        )


def _table_alone(
    path: str, choice: FormatChoice, format_: Format, names: Collection[str]
) -> Table | None:
    """Return the table of a file that comes alone; its name may have to decide.

    Raises UnreadableFile.
    """
    table = format_.table_alone(name_sent(path, choice), names)
    if table is None and (possible := [t for t in format_.tables if t.recognizes(names)]):
        usual = " or ".join(table.file_names[0] for table in possible)
        raise UnreadableFile(
            f"{path} has the columns of several files of {format_.title}, and only the name of the"
            f" file can tell whether it holds {' or '.join(table.name for table in possible)};"
            f" submit it under its own name ({usual}), or the whole export as a zip archive."
        )
    return table


def name_sent(path: str, choice: FormatChoice) -> str:
    """Return the name, folded, under which a file was sent.

    `path` may be followed by the name of a file in it or of its sheet, which counts then.
    """
    path = re.sub(r" \(\d+\)(?=\.)", "", path)  # Browsers name copies "Student (1).csv".
    *_, inner = [path, *re.split(r" \(|, sheet ", path)[1:]]
    sent = choice.file_name if inner == path and choice.file_name else inner
    return folded(re.sub(r" \(\d+\)(?=\.)", "", re.split(r"[/\\]", sent)[-1]))


def is_ours(header: Sequence[str], names: Collection[str]) -> bool:
    """Return whether a header has our own names, so that no format is needed to read it."""
    plain = set(map(plain_name, header))
    is_roster = "sis_id" in names and not plain.isdisjoint(("name", "email", "title"))
    return is_roster or not (plain.isdisjoint(STUDENT_COLUMNS) or plain.isdisjoint(COURSE_COLUMNS))


def _not_of(path: str, format_: Format, found: Header) -> UnreadableFile:
    files = "; ".join(
        f"{table.name}: {', '.join(_needed_columns(table))}"
        for table in format_.tables
        if table.kind is not None
    )
    return UnreadableFile(
        f"{path} is not a file of {format_.title} that can be read; its first line is"
        f" {shorten(found.first_line)}. The files need these columns: {files}.",
        "format",
    )


def _needed_columns(table: Table) -> list[str]:
    """Return the columns that a table needs, as they are shown where it has none of them."""
    if table.any_of:
        return sorted(table.required or table.any_of[0])
    first = [
        table.columns[ours][0] for ours in ("student_id", "course_id") if ours in table.columns
    ]
    return sorted(table.required.union(name for name in first if isinstance(name, str)))


def table_layout(
    path: str,
    recognized: tuple[Format, Table, Header],
    notices: Notices,
    undecodable: str,
    choice: FormatChoice,
    *,
    drop: bool,
    goes_on: bool,
) -> FileLayout:
    """Describe a file whose table was found by `find_table`. Raises UnreadableFile.

    `undecodable` says what is wrong with a cell whose bytes could not be decoded.
    """
    format_, table, found = recognized
    found = _with_names(table, found)
    names = list(map(folded, found.names))
    columns = find_columns(path, table, found.names, names)
    _check(path, format_, table, columns.readers.keys(), names, choice, drop=drop)
    moments = find_moments(path, table, names, choice)
    columns = with_moments(columns, moments, found.names)
    rows = found.row_reader(path, undecodable, table.fewest or None)
    counts, how = Counter[str](), {"format": format_.name, "moments_from_file": bool(moments)}
    reading = _Reading(path, table, found, columns, rows, notices, choice, counts, moments)
    if not found.rows_follow and not goes_on:
        notices.add(f"{path} has a header but no rows.")
    assert table.kind is not None  # noqa: S101 - `find_table` refuses such tables
    return FileLayout(
        table.kind,
        partial(reading.read, time_zone()),
        notices,
        rows.account,
        storable(found.names),
        found.form.model_copy(update=how),
        {name: printable(shown) for name, shown in columns.shown.items()},
        ordered=table.shape is Shape.OPERATION,
        header_line=found.first,
        source=f"{table.name} of {format_.title}",
        system=format_.title,
        passed_over=counts,
        used=tuple(found.names[at] for at in sorted(columns.used)),
        named=partial(reading.named, time_zone()) if reading.can_name else None,
        is_complete=format_.is_complete and LINE not in names,
    )


def _with_names(table: Table, found: Header) -> Header:
    """Return the header of a table; a file that lacks it has the names that are usual."""
    if not table.lacks_header(list(map(folded, found.names))):
        return found
    names, lines = list(table.unnamed), found.first - 1
    return found._replace(names=names, lines=lines, rows_follow=True, is_guarded=False)


def columns_of_format(
    format_name: str, file_name: str | None, header: Sequence[str]
) -> TableColumns | None:
    """Return how our columns are read from a file with this header, which is of this format.

    Returns None if the format is not known here, or the file is not one of its files.
    """
    names = list(map(folded, header))
    try:
        choice = choice_of(format_name, file_name)
        if choice.format is None:
            return None
        table = _table_alone("The file", choice, choice.format, names)
        return None if table is None else find_columns("The file", table, header, names)
    except UnreadableFile:
        return None


class _Reading(NamedTuple):
    """What is needed to read a table."""

    path: str
    table: Table
    found: Header
    columns: TableColumns
    row_reader: RowReader
    notices: Notices
    choice: FormatChoice
    passed_over: Counter[str]
    moments: Moments | None

    def _telling(self) -> int | None:
        """Return the position of the column of roles, in which a second header shows itself."""
        header = list(map(folded, self.found.names))
        roles = [name for name in self.table.rule.roles if name in header]
        return header.index(roles[0]) if len(roles) == 1 else None

    def _deciding_roles(self) -> Roles | None:
        """Return the roles of users in the rest of the package, if the lines alone do not decide.

        A file of refused lines has only lines of students.
        """
        if self.table.members is Members.ALL:
            return None
        if LINE in map(folded, self.found.names) and not self.columns.shows_roles:
            return None
        return self.choice.roles

    @property
    def can_name(self) -> bool:
        """Return whether the lines name courses in one column, and perhaps students in another."""
        return self.table.shape is Shape.PAIR and self.table.kind is not Kind.STUDENTS

    def named(self, zone: tzinfo, file: BinaryIO) -> Iterator[Named]:
        """Yield which courses and students the lines of a file name."""
        names = list(map(folded, self.found.names))
        rows, judge = self._rows(file), self._judge(zone, names)
        return named_in_rows(rows, len(names), self.columns.readers, judge)

    def _judge(self, zone: tzinfo, names: Sequence[str]) -> Judge:
        today = moment_of_batch().astimezone(zone).date()
        return judge_of(self.table.rule, names, today, zone, self._class_ends(names, today, zone))

    def _class_ends(self, names: Sequence[str], today: date, zone: tzinfo) -> ClassEnds | None:
        """Return what ends lines with the terms of their classes, if the package has terms."""
        if self.choice.terms is None or self.table.kind is not Kind.ENROLLMENTS:
            return None
        rule = self.table.rule
        begin, end = (names.index(n) if n in names else None for n in (rule.begin, rule.end))
        read_class = self.columns.readers["course_id"]
        closing = None
        if rule.ended_word and rule.status in names:
            closing = names.index(rule.status), rule.ended_word
        return ClassEnds(self.choice.terms, read_class, (begin, end), today, zone, closing)

    def _rows(self, file: BinaryIO) -> Rows:
        """Yield the rows without passwords; refuse other headers, and what stands below them."""
        header = self.found.names
        rows = without_passwords(self.row_reader.read(file), header)
        if self.found.is_guarded:
            rows = without_guards(rows, header.index(GUARDED))
        return refuse_below_others(rows, self.row_reader, header, self._used(), self._telling())

    def _used(self) -> set[str]:
        """Return the plain names of the columns that are read."""
        return {plain_name(self.found.names[at]) for at in self.columns.used}

    def _blocks(self, file: BinaryIO) -> RowsOrBlocks:
        """Yield what `_rows` yields, with rows in blocks if no cell has to be changed in them."""
        header = self.found.names
        if self.found.is_guarded or has_passwords(header):
            return self._rows(file)
        blocks = self.row_reader.read_blocks(file, self.columns.first["student_id"])
        return refuse_in_blocks(blocks, self.row_reader, header, self._used(), self._telling())

    def read(self, zone: tzinfo, file: BinaryIO) -> Lines:
        """Yield the records of a file; then add notices about its lines as a whole."""
        table = self.table
        self.passed_over.clear()
        tally = Tally(self.passed_over)
        names = list(map(folded, self.found.names))
        judge = self._judge(zone, names)
        account = self.row_reader.account
        reader = TableReader(table, self.columns, judge, account, tally)
        if self.moments is not None:
            self.moments.begin()
        if table.shape is Shape.NUMBERED:
            rows = self._rows(file)
            yield from numbered_courses(rows, names, self.columns.readers, account, tally)
        elif table.shape is Shape.OPERATION:
            yield from reader.operations(self._rows(file))
        elif table.kind is Kind.ENROLLMENTS and self.moments is not None:
            judged = JudgedRows(judge, account, tally, self.columns.shown)
            yield from judged.requests(self._rows(file), pair_reader(self.columns.readers))
        elif table.kind is Kind.ENROLLMENTS:
            if marks := status_columns(table, self.found.names):
                watched = noticing_status(self.path, self._rows(file), marks, self.notices)
                yield from reader.enrollments(watched)
            else:
                yield from reader.enrollments(self._blocks(file))
        else:
            records = reader.roster(self._rows(file), self._deciding_roles())
            yield from noticing_values(self.path, records, self.notices)
        if self.choice.roles is None:
            notice_everyone(self.path, table, names, self.notices)
        is_snapshot = self.notices.is_snapshot
        for sentence in tally.sentences(self.path, is_snapshot=is_snapshot):
            self.notices.add(sentence)
        if self.moments is not None:
            self.moments.notice(self.path, self.notices)


def notice_everyone(path: str, table: Table, names: Collection[str], notices: Notices) -> None:
    """Add a notice if a roster of users may hold others, and its columns do not show them."""
    shows_roles = any(name in names for name in table.rule.roles)
    if table.members is Members.NOT_STAFF and not shows_roles:
        notices.add(
            f"{path} does not say which of its users are students, so all of them are stored in the"
            " roster. Only students are enrolled."
        )


def _check(
    path: str,
    format_: Format,
    table: Table,
    readable: Collection[str],
    names: Collection[str],
    choice: FormatChoice,
    *,
    drop: bool,
) -> None:
    """Raise UnreadableFile if a table cannot be read by itself, or as it is chosen to be read."""
    what = f"{path} holds {table.name} of {format_.title}"
    if drop:
        raise UnreadableFile(
            f"{what}, whose lines say which of them are drops; {NOT_ALL_DROPS}.", "drop"
        )
    for ours in ("student_id", "course_id") if table.kind is Kind.ENROLLMENTS else ("sis_id",):
        if ours not in readable:
            columns = " or ".join(" and ".join(_names_of(name)) for name in table.columns[ours])
            raise UnreadableFile(
                f"{what}, but has no column {columns}; export it with that column."
            )
    roles = table.rule.roles
    shows_roles = any(name in names for name in roles)
    needs_package = table.members is Members.STUDENTS and not shows_roles
    # A file of refused lines has only lines of students.
    if needs_package and choice.roles is None and LINE not in names:
        hint = f", or write student into a column {roles[-1]}" if roles else ""
        raise UnreadableFile(
            f"{what}, but does not show which of the users are students{_ALONE}{hint}."
        )
    if table.kind is Kind.ENROLLMENTS and roles and not shows_roles:
        raise UnreadableFile(
            f"{what}, but does not show who is a student: it has no column {roles[-1]}."
            " Export it with that column."
        )


def _names_of(entry: str | tuple[str, ...]) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry
