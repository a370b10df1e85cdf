"""Make records of the lines of a format's file, and count the lines that are passed over."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import compress
from operator import and_, not_
from typing import NamedTuple

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.fields import MAX_COURSES, MAX_TEXT
from producer.files.account import Account
from producer.files.cells import Row, identifier, record_reader, refused_line
from producer.files.columns import BadCell, ColumnReader
from producer.files.formats.base import KEEP, NOT_NAMED, PASS, Alternatives, Members, Table
from producer.files.formats.judging import Judge, Tally
from producer.files.formats.roles import Roles
from producer.files.formats.verdicts import PLAIN, Verdict
from producer.files.formats.window import Window
from producer.files.layout import Lines
from producer.files.row_blocks import RowBlock
from producer.files.second_header import RowsOrBlocks
from producer.publishing.chunking import CELL_END, SourceRecord
from producer.schemas import Kind

Rows = Iterator[Row | RefusedLine]


class TableColumns(NamedTuple):
    """How our columns are read from a table, and the columns they are read from, as shown."""

    readers: Mapping[str, ColumnReader]
    first: Mapping[str, int]
    """For each of our columns, the position of the first column that it is read from."""
    shown: Mapping[str, str]
    used: frozenset[int]
    """The positions of the columns that are read."""
    sources: Mapping[str, tuple[str, ...]]
    """The columns that each of ours is read from, in the order in which they count."""
    shows_roles: bool
    """Whether the lines themselves say who is a student."""


def find_columns(
    path: str, table: Table, header: Sequence[str], names: Sequence[str]
) -> TableColumns:
    """Find the columns of a table in a header; `names` are its names, folded.

    Raises UnreadableFile.
    """
    readers: dict[str, ColumnReader] = {}
    first: dict[str, int] = {}
    shown: dict[str, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    used: set[int] = set()
    rule = table.rule
    used.update(names.index(n) for n in (*rule.roles, rule.status) if n in names)
    for ours, alternatives in table.columns.items():
        groups = _present(alternatives, names)
        if groups:
            readers[ours] = _reader(groups, table.cleared)
            first[ours] = groups[0][0]
            shown[ours] = " or ".join(" ".join(header[at] for at in group) for group in groups)
            sources[ours] = tuple(header[at] for group in groups for at in group)
            used.update(at for group in groups for at in group)
    repeated = sorted(names[at] for at in used if names.count(names[at]) > 1)
    if repeated:
        raise UnreadableFile(
            f"{path}: these columns occur more than once in the header: {', '.join(repeated)}."
            " Rename or remove the extra ones."
        )
    shows_roles = any(name in names for name in rule.roles)
    return TableColumns(readers, first, shown, frozenset(used), sources, shows_roles)


def column_reader(alternatives: Alternatives, names: Sequence[str]) -> ColumnReader | None:
    """Return a reader of the first of these columns with text; None if the header has none."""
    groups = _present(alternatives, names)
    return _reader(groups, frozenset()) if groups else None


def _present(alternatives: Alternatives, names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the positions of the columns that a header has, for each alternative with any."""
    groups = [(entry,) if isinstance(entry, str) else entry for entry in alternatives]
    places = [tuple(names.index(name) for name in group if name in names) for group in groups]
    return [group for group in places if group]


def _reader(groups: Sequence[tuple[int, ...]], cleared: frozenset[str]) -> ColumnReader:
    if len(groups) == 1 and len(groups[0]) == 1 and not cleared:
        ((only,),) = groups
        return lambda row: row[only].strip()
    if all(len(group) == 1 for group in groups) and not cleared:
        first, *others = (group[0] for group in groups)
        return lambda row: (
            row[first].strip() or next(filter(None, (row[other].strip() for other in others)), "")
        )

    def read(row: Sequence[str]) -> str:
        for group in groups:
            cells = (row[at].strip() for at in group)
            if text := " ".join(cell for cell in cells if cell and cell not in cleared):
                return text
        return ""

    return read


def members_of(rows: Rows, judge: Judge, read: ColumnReader) -> Iterator[tuple[str, bool]]:
    """Yield the users that the rows of a table name, each with whether it is a student there.

    A line that cannot be understood says nothing here; it is refused where it is read as a record.
    """
    for entry in rows:
        if isinstance(entry, tuple):
            with suppress(BadCell):
                verdict = judge(entry[1])
                yield read(entry[1]), verdict.action is not PASS


class TableReader:
    """Reads the rows of one table as records; belongs to one reading of the file."""

    def __init__(
        self, table: Table, columns: TableColumns, judge: Judge, account: Account, tally: Tally
    ) -> None:
        self._table = table
        self._columns = columns
        self._judge = judge
        self._account = account
        self._tally = tally
        if table.kind is Kind.ENROLLMENTS:
            self._student, self._course = map(self._id_reader, ("student_id", "course_id"))

    def enrollments(self, rows: RowsOrBlocks) -> Lines:
        """Yield requests: the pairs of a student are grouped within a window of lines.

        The lines describe a state: it does not matter in which order they stand.
        """
        first = self._columns.first
        student_at, course_at = first["student_id"], first["course_id"]
        key_of, plain = self._judge.key_of, self._judge.plain
        window = Window()
        find, known_courses = window.latest.get, window.courses
        plain_key = None
        for entry in rows:
            if isinstance(entry, RowBlock):
                yield from self._block(window, entry)
                continue
            if not isinstance(entry, tuple):
                yield entry
                continue
            line, row = entry
            if line > window.end:
                yield from window.take_before(line)
            course = row[course_at]
            # Almost every line names a course that was read before, and asks for what others do.
            if course in known_courses and ((key := key_of(row)) == plain_key or key in plain):
                plain_key = key  # It is quicker to compare it with the next one than to look it up.
                latest = find(student := row[student_at])
                if latest is None:
                    if _is_clean(student):
                        window.begin(student, [course], [line], [CELL_END.join(row)])
                        continue
                elif course not in (courses := latest[0]) and len(courses) < MAX_COURSES:
                    courses.append(course)
                    latest[1].append(line)
                    latest[2].append(CELL_END.join(row))
                    continue
            if (refused := self._add(window, entry)) is not None:
                yield refused
        yield from window.take()

    def _block(self, window: Window, block: RowBlock) -> Lines:
        """Add the rows of a block, and yield the requests of windows that end in it."""
        first = self._columns.first
        students: list[str | None] = [*block.column(first["student_id"])]
        courses = block.column(first["course_id"])
        plain = self._judge.plain_rows(block)
        if not all(plain) or not self._learn(window, courses):
            are_known = map(window.courses.__contains__, courses)
            for at in compress(range(len(plain)), map(not_, map(and_, plain, are_known))):
                students[at] = None
        texts: list[list[str] | str] = [*block.texts]
        lines, begin = [*range(block.first, block.last + 1)], 0
        while begin < len(lines):
            yield from window.take_before(lines[begin])
            end = min(window.end - block.first + 1, len(lines))
            part = slice(begin, end)
            for at in window.add_runs(students[part], courses[part], lines[part], texts[part]):
                row = block.row(begin + at)
                if (refused := self._add(window, (lines[begin + at], row))) is not None:
                    yield refused
            begin = end

    def _learn(self, window: Window, courses: Sequence[str]) -> bool:
        """Learn which courses are valid and not over; return whether all of them are."""
        if window.courses.issuperset(courses):
            return True
        unknown = set(courses) - window.courses
        usual = [c for c in unknown if _is_clean(c) and not self._judge.is_over(c)]
        window.courses.update(usual)
        return len(usual) == len(unknown)

    def _add(self, window: Window, entry: Row) -> RefusedLine | None:
        """Add a row to the window, or pass it over; return its refusal if it is refused."""
        line, row = entry
        try:
            verdict = self._judge(row)
            if verdict.action is PASS:
                self._pass_over(line, verdict)
            else:
                pair = self._student(row), self._course(row)
                if verdict is not PLAIN:
                    self._tally.add(line, verdict)
                window.add(line, CELL_END.join(row), pair, verdict)
                if not self._judge.is_over(pair[1]):
                    window.courses.add(pair[1])
        except BadCell as bad_cell:
            return self._refused(line, row, bad_cell)
        return None

    def operations(self, rows: Rows) -> Lines:
        """Yield a request for each row, which counts later than those before it."""
        window = Window()
        for entry in rows:
            if not isinstance(entry, tuple):
                yield entry
                continue
            line, cells = entry
            row = [unquoted(cell) for cell in cells]
            try:
                verdict = self._judge(row)
                if verdict.action is PASS:
                    self._pass_over(line, verdict)
                    continue
                self._tally.add(line, verdict)
                pair = self._student(row), self._course(row)
                window.add(line, CELL_END.join(cells), pair, verdict)
                yield from window.take()
            except BadCell as bad_cell:
                yield self._refused(line, cells, bad_cell)

    def _id_reader(self, name: str) -> Callable[[list[str]], int | str]:
        """Return a function that reads the id in one of our columns. It raises BadCell."""
        shown, read = self._columns.shown[name], self._columns.readers[name]
        return identifier(shown, read, is_ours=False)

    def roster(self, rows: Rows, roles: Roles | None) -> Lines:
        """Yield roster records.

        `roles` are those that the rest of the package gives to users; without them, lines are
        judged by their own cells alone.
        """
        assert self._table.kind is not None  # noqa: S101 - such tables are not read as records
        read = record_reader(self._table.kind, self._columns.readers)
        sis_id = self._columns.readers["sis_id"]
        for entry in rows:
            if not isinstance(entry, tuple):
                yield entry
                continue
            line, row = entry
            try:
                verdict = self._judge(row)
                if roles is not None and not verdict.is_gone:
                    user = sis_id(row)
                    if verdict.action is PASS and roles.is_student(user):
                        verdict = PLAIN  # A teacher may be a student elsewhere.
                    elif verdict.action is KEEP and self._is_other(roles, user):
                        verdict = Verdict(PASS, NOT_NAMED)
                if verdict.action is not KEEP:
                    self._pass_over(line, verdict._replace(action=PASS))
                    continue
                record = read(row)
                yield SourceRecord(record, [line], [row])
            except BadCell as bad_cell:
                yield self._refused(line, row, bad_cell)

    def _is_other(self, roles: Roles, user: str) -> bool:
        """Return whether a user is no student by what the rest of the package says."""
        if self._table.members is Members.NOT_STAFF:
            return roles.is_other(user)
        return not self._columns.shows_roles and not roles.is_student(user)

    def _pass_over(self, line: int, verdict: Verdict) -> None:
        self._account.skip()
        self._tally.add(line, verdict)

    def _refused(self, line: int, row: list[str], bad_cell: BadCell) -> RefusedLine:
        """Return the refusal of a line, with the name that its file has for the column."""
        name = self._columns.shown.get(bad_cell.column, bad_cell.column)
        problem = str(bad_cell).removeprefix(f"{bad_cell.column}: ")
        return refused_line(line, row, BadCell(name, problem))


def _is_clean(text: str) -> bool:
    """Return whether an id is valid as it is written; others need a closer look."""
    return text.isprintable() and 0 < len(text) <= MAX_TEXT and text.strip() == text


def unquoted(cell: str) -> str:
    """Return a cell without spaces and one pair of quotes around it."""
    text = cell.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace(text[0] * 2, text[0]).strip()
    return text
