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
"""Returns the text of one of our columns, from the cells of a row."""


def column_readers(
    path: str, header: list[str], templates: Mapping[str, str]
) -> dict[str, ColumnReader]:
    """Return a reader for each of our columns that the file has or that a template makes.

    Raises UnreadableFile.
    """
    repeated = {name for name in header if header.count(name) > 1}
    our_columns = {name for columns in COLUMNS.values() for name in columns}
    in_templates = set(_PLACEHOLDER.findall(" ".join(templates.values())))
    if repeated & (our_columns | in_templates):
        names = ", ".join(sorted(repeated))
        raise UnreadableFile(
            f"{path}: these columns occur more than once in the header: {names}."
            " Rename or remove the extra ones."
        )
    readers = {name: _cell(index) for index, name in enumerate(header) if name in our_columns}
    for name, template in templates.items():
        if name not in our_columns:
            raise UnreadableFile(
                f"{path}: the mapping {name}={template}: {name} is not one of our columns; choose"
                f" from {', '.join(sorted(our_columns))}.",
                "map",
            )
        parts = _PLACEHOLDER.split(template)
        unknown = [column for column in parts[1::2] if column not in header]
        if unknown or "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
            problem = (
                f"the file has no column {unknown[0]!r}"
                if unknown
                else "the template has an unmatched brace"
            )
            raise UnreadableFile(
                f"{path}: the mapping {name}={template}: {problem}; the file's columns are:"
                f" {', '.join(header)}.",
                "map",
            )
        readers[name] = _template(parts, header)
    return readers


def _cell(index: int) -> ColumnReader:
    return lambda row: row[index].strip()


def _template(parts: list[str], header: list[str]) -> ColumnReader:
    indexes = [header.index(name) for name in parts[1::2]]
    pattern = "%s".join(text.replace("%", "%%") for text in parts[::2])
    return lambda row: pattern % tuple(row[index].strip() for index in indexes)


def kind_of(path: str, columns: Iterable[str]) -> Kind:
    """Return the kind of record that these columns belong to. Raises UnreadableFile."""
    names = set(columns)
    if names & set(COLUMNS[Kind.ENROLLMENTS]):
        return Kind.ENROLLMENTS
    if names & {"name", "email"}:
        return Kind.STUDENTS
    if "title" in names:
        return Kind.COURSES
    raise UnreadableFile(
        f"{path}: the first line does not show whether the file holds students, courses or"
        " enrollments. Choose the kind of the records; if the columns of a CSV file have other"
        " names than ours, also map them.",
        "kind",
        "map",
    )


def check_columns(path: str, kind: Kind, readers: Mapping[str, ColumnReader]) -> None:
    """Raise UnreadableFile if a required column is missing or if a column does not fit."""
    if kind is not Kind.ENROLLMENTS:
        choices: list[tuple[str, ...]] = [("sis_id",)]
    else:
        choices = [("student_id", "student_sis_id"), ("course_id", "course_sis_id")]
    for names in choices:
        present = [name for name in names if name in readers]
        if not present:
            raise UnreadableFile(
                f"{path}: {kind} need a column {' or '.join(names)}; add it to the header, or map"
                f" another column to it, for example {names[-1]}={{column}}.",
                "map",
            )
        if len(present) > 1:
            raise UnreadableFile(
                f"{path} has both {' and '.join(names)}, but may have only one of them; remove one."
            )
    misplaced = [name for name in readers if name not in COLUMNS[kind]]
    if misplaced:
        raise UnreadableFile(
            f"{path}: {misplaced[0]} is not a column of {kind}, whose columns are"
            f" {', '.join(COLUMNS[kind])}. Rename or remove it, or choose another kind of records.",
            "kind",
        )
