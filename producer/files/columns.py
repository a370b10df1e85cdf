"""Map the columns of a file to the columns of the contract."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from producer.errors import UnreadableFile
from producer.schemas import Kind

COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    Kind.STUDENTS: ("sis_id", "name", "email"),
    Kind.COURSES: ("sis_id", "title"),
    Kind.ENROLLMENTS: ("student_id", "student_sis_id", "course_id", "course_sis_id"),
}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

ColumnReader = Callable[[Sequence[str]], str]
"""Makes the text of one of our columns out of a row's cells."""


def column_readers(
    path: str, header: list[str], templates: Mapping[str, str]
) -> dict[str, ColumnReader]:
    """How to make each of our columns that this file has or that a template gives."""
    doubled = {name for name in header if header.count(name) > 1}
    ours = {name for columns in COLUMNS.values() for name in columns}
    if doubled & (ours | set(_PLACEHOLDER.findall(" ".join(templates.values())))):
        raise UnreadableFile(f"{path}: the header names {sorted(doubled)} twice; rename one.")
    made = {name: _cell(place) for place, name in enumerate(header) if name in ours}
    for name, template in templates.items():
        if name not in ours:
            raise UnreadableFile(
                f"--map {name}=…: there is no such column; choose from {', '.join(sorted(ours))}."
            )
        parts = _PLACEHOLDER.split(template)
        unknown = [column for column in parts[1::2] if column not in header]
        if unknown or "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
            what = f"has no column {unknown[0]!r}" if unknown else "does not fit: unpaired brace"
            raise UnreadableFile(
                f"{path}: --map {name}={template} {what}; the columns are: {', '.join(header)}."
            )
        made[name] = _template(parts, header)
    return made


def _cell(place: int) -> ColumnReader:
    return lambda row: row[place].strip()


def _template(parts: list[str], header: list[str]) -> ColumnReader:
    places = [header.index(name) for name in parts[1::2]]
    form = "%s".join(text.replace("%", "%%") for text in parts[::2])
    return lambda row: form % tuple(row[place].strip() for place in places)


def kind_of(path: str, columns: Iterable[str]) -> Kind:
    names = set(columns)
    if names & set(COLUMNS[Kind.ENROLLMENTS]):
        return Kind.ENROLLMENTS
    if names & {"name", "email"}:
        return Kind.STUDENTS
    if "title" in names:
        return Kind.COURSES
    raise UnreadableFile(
        f"{path}: the first line does not tell whether these are students, courses or enrollments;"
        " give --kind, and for CSV --map for columns that have another name."
    )


def check_columns(path: str, kind: Kind, made: Mapping[str, ColumnReader]) -> None:
    if kind is not Kind.ENROLLMENTS:
        choices: list[tuple[str, ...]] = [("sis_id",)]
    else:
        choices = [("student_id", "student_sis_id"), ("course_id", "course_sis_id")]
    for names in choices:
        present = [name for name in names if name in made]
        if not present:
            raise UnreadableFile(
                f"{path}: {kind} need a column {' or '.join(names)};"
                f" add it to the header, or give --map {names[-1]}='{{column}}'."
            )
        if len(present) > 1:
            raise UnreadableFile(f"{path}: has both {' and '.join(names)}; remove one of them.")
    strange = [name for name in made if name not in COLUMNS[kind]]
    if strange:
        raise UnreadableFile(
            f"{path}: {strange[0]} is no column of {kind}; they have {', '.join(COLUMNS[kind])}."
        )
