"""Map the columns of a file to the columns of the contract."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from producer.errors import UnreadableFile
from producer.fields import MAX_COLUMNS
from producer.files.raw_bytes import storable
from producer.files.shorten import shorten
from producer.schemas import Kind

STUDENT_COLUMNS = ("student_id", "student_sis_id", "student_key")
COURSE_COLUMNS = ("course_id", "course_sis_id", "course_key")
"""The names for the student and the course of an enrollment: the first two hold SIS ids, the third
holds our key."""

ACTION = "action"
"""The column that says what a line asks for; an empty cell means that it enrolls."""

AS_OF = "as_of"
"""The column that says when a line counts."""

REASON = "reason"
"""The column that says why a line enrolls or drops."""

COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    Kind.STUDENTS: ("sis_id", "name", "email", AS_OF),
    Kind.COURSES: ("sis_id", "title", AS_OF),
    Kind.ENROLLMENTS: (*STUDENT_COLUMNS, *COURSE_COLUMNS, ACTION, REASON, AS_OF),
}
_OURS = frozenset(name for columns in COLUMNS.values() for name in columns)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

ColumnReader = Callable[[Sequence[str]], str]
"""Returns the text of one of our columns, from the cells of a row. It may raise BadCell."""


class BadCell(Exception):
    """A cell that cannot be read; the message names its column and the problem."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"{column}: {problem}")
        self.column = column


_IGNORED = re.compile(r"^ï»¿|[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+")
"""What does not distinguish the names of columns: spaces and invisible characters, and a byte order
mark that a program took for letters of cp1252."""

_JOINED = {
    name.replace("_", ""): name
    for columns in COLUMNS.values()
    for name in columns
    if not name.endswith("_key")  # The keys of another system are not ours.
}
"""Our columns by their names without what joins words."""


def plain_name(name: str) -> str:
    """Return the name of a column as it is compared: without case, spaces and the invisible.

    `Student ID`, `student-id` and `StudentID` are our column student_id.
    """
    # A file may have many thousands of columns, and most of their names have nothing to ignore.
    is_simple = name.isascii() and name.isprintable() and " " not in name
    plain = (name if is_simple else _IGNORED.sub("", name)).casefold()
    return _JOINED.get(plain.replace("_", "").replace("-", ""), plain)


def wanted_columns(header: Iterable[str], templates: Mapping[str, str]) -> int:
    """Return how many columns of a header are ours or are named by a template.

    Only so many columns are looked at as a header may have.
    """
    names = set(map(plain_name, islice(header, MAX_COLUMNS)))
    return len((_OURS | _named_by(templates)) & names)


def _named_by(templates: Mapping[str, str]) -> set[str]:
    """Return the plain names of the file's columns that templates name."""
    return set(map(plain_name, _PLACEHOLDER.findall(" ".join(templates.values()))))


def column_readers(
    path: str, header: list[str], templates: Mapping[str, str]
) -> dict[str, ColumnReader]:
    """Return a reader for each of our columns that the file has or that a template makes.

    A template comes before a column of the file that has the same name. Raises UnreadableFile.
    """
    names = list(map(plain_name, header))
    _check_unrepeated(path, names, _named_by(templates))
    readers = {name: _cell(index) for index, name in enumerate(names) if name in _OURS}
    for name, template in templates.items():
        problem = _fault_of(name, template, names)
        if problem:
            raise UnreadableFile(
                f"{path}: the mapping {name}={template}: {problem}; the file's columns are:"
                f" {', '.join(header)}.",
                "map",
            )
        readers[name] = _template(name, _PLACEHOLDER.split(template), names)
    return readers


def columns_read(names: Iterable[str], templates: Mapping[str, str]) -> set[str]:
    """Return the plain names of the columns of the file that these columns of ours are made of."""
    read = [templates.get(name, f"{{{name}}}") for name in names]
    return set(map(plain_name, _PLACEHOLDER.findall(" ".join(read))))


def _check_unrepeated(path: str, names: Sequence[str], used: Iterable[str]) -> None:
    repeated = sorted(name for name in set(used) if names.count(name) > 1)
    if repeated:
        raise UnreadableFile(
            f"{path}: these columns occur more than once in the header: {', '.join(repeated)}."
            " Rename or remove the extra ones."
        )


def _fault_of(name: str, template: str, names: Sequence[str]) -> str | None:
    """Return what is wrong with a mapping of the columns with these plain names."""
    if name not in _OURS:
        return f"{name} is not one of our columns; choose from {', '.join(sorted(_OURS))}"
    texts, columns = (_PLACEHOLDER.split(template)[start::2] for start in (0, 1))
    unknown = [column for column in columns if plain_name(column) not in names]
    if unknown:
        return f"the file has no column {unknown[0]!r}"
    if re.search("[{}]", "".join(texts)):
        return "the template has an unmatched brace"
    if storable(texts) != tuple(texts):
        return "the template holds NUL or bytes that are not text"
    if not columns:
        return f"the template names no column; write {{{template}}} if that is one"
    return None


def _cell(index: int) -> ColumnReader:
    return lambda row: row[index].strip()


def _template(name: str, parts: list[str], names: Sequence[str]) -> ColumnReader:
    columns = parts[1::2]
    indexes = [names.index(plain_name(column)) for column in columns]
    pattern = "%s".join(text.replace("%", "%%") for text in parts[::2])
    is_id = name.endswith(("_id", "_key"))

    def read(row: Sequence[str]) -> str:
        cells = tuple(row[index].strip() for index in indexes)
        if not all(cells):
            if not any(cells):
                return ""
            if is_id:
                empty = columns[cells.index("")]
                raise BadCell(name, f"the cell of {empty} is empty; fill it in")
        return pattern % cells

    return read


def kind_of(
    path: str,
    columns: Iterable[str],
    first_line: str,
    looks_like: str = "",
    mapped: Iterable[str] = (),
) -> Kind:
    """Return the kind of record that these columns belong to; the `mapped` ones decide first.

    `first_line` and the sentence `looks_like` are shown if there is none. Raises UnreadableFile.
    """
    chosen = set(mapped) - {AS_OF}  # Every kind has this column.
    if not chosen.isdisjoint((ACTION, REASON)):
        return Kind.ENROLLMENTS
    # Columns are mapped to those of a roster, or to those of an enrollment.
    others = set(COLUMNS[Kind.ENROLLMENTS]) if chosen else set()
    kind = _kind_shown_by(chosen) or _kind_shown_by(set(columns) - others)
    if kind is not None:
        return kind
    choose = f"{looks_like} Otherwise, choose" if looks_like else "Choose"
    raise UnreadableFile(
        f"{path}: the first line does not show whether the file holds students, courses or"
        f" enrollments: {shorten(first_line)}. {choose} the kind of the"
        " records, and map the columns of a CSV file if they have other names than ours.",
        "kind",
        "map",
    )


def _kind_shown_by(names: set[str]) -> Kind | None:
    is_students, is_courses = not names.isdisjoint(("name", "email")), "title" in names
    roster = None
    if is_students != is_courses:
        roster = Kind.STUDENTS if is_students else Kind.COURSES
    has_student, has_course = (
        not names.isdisjoint(columns) for columns in (STUDENT_COLUMNS, COURSE_COLUMNS)
    )
    if has_student and has_course:
        return Kind.ENROLLMENTS
    # A roster may have a column of another table, which does not count.
    is_roster = "sis_id" in names and roster is not None
    return Kind.ENROLLMENTS if (has_student or has_course) and not is_roster else roster


def choose_columns(
    path: str,
    kind: Kind,
    header: Iterable[str],
    readers: Mapping[str, ColumnReader],
    templates: Mapping[str, str],
) -> dict[str, ColumnReader]:
    """Return the readers of the columns of a kind; the file's other columns are only carried along.

    Raises UnreadableFile if a required column is missing, if there are two for one value, or if the
    header has one of them twice.
    """
    is_pair = kind is Kind.ENROLLMENTS
    chosen = {name: reader for name, reader in readers.items() if name in COLUMNS[kind]}
    for names in (STUDENT_COLUMNS, COURSE_COLUMNS) if is_pair else (("sis_id",),):
        present = [name for name in names if name in chosen]
        mapped = [name for name in present if name in templates]
        if not present:
            raise _missing(path, kind, names, readers)
        if len(present) > 1 and len(mapped) != 1:
            raise _ambiguous(path, present)
        for name in present:
            if mapped and name not in mapped:
                del chosen[name]
    _check_unrepeated(path, list(map(plain_name, header)), chosen.keys() - templates.keys())
    return chosen


def _missing(
    path: str, kind: Kind, names: Sequence[str], readers: Mapping[str, ColumnReader]
) -> UnreadableFile:
    ids = [name for name in readers if name in COLUMNS[Kind.ENROLLMENTS] and name.endswith("_id")]
    roster_map = f"sis_id={{{ids[0] if ids else 'column'}}}"
    keys = roster = ""
    example = roster_map
    if kind is Kind.ENROLLMENTS:
        keys = f" (or {names[2]}, if it holds our keys)"
        example = f"{names[1]}={{column}}"
        if ids and not readers.keys().isdisjoint(("name", "email", "title")):
            roster = f" If the file is a roster, map {roster_map} instead."
    return UnreadableFile(
        f"{path}: {kind} need a column {' or '.join(names[:2])}{keys}; add it to the header, or map"
        f" another column to it, for example {example}.{roster}",
        "map",
    )


def _ambiguous(path: str, present: Sequence[str]) -> UnreadableFile:
    *others, last = present
    both = "both " if len(others) == 1 else ""
    meanings = ", ".join(
        f"{name} holds {'our keys' if name.endswith('_key') else 'SIS ids'}" for name in present
    )
    return UnreadableFile(
        f"{path} has {both}{', '.join(others)} and {last}, but may have only one of them"
        f" ({meanings}); remove one, or map the one that counts, for example"
        f" {present[0]}={{{present[0]}}}.",
        "map",
    )
