"""Read lines that hold a student and several courses: course1, role1, course2, role2 and so on."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from producer.contract.chunks import COURSE_FIELDS, RefusedLine
from producer.fields import MAX_COURSES
from producer.files.account import Account
from producer.files.cells import Row, checked_text, identifier, refused_line
from producer.files.columns import BadCell, ColumnReader
from producer.files.formats.base import DROP, KEEP, NO_COURSE, PASS, folded
from producer.files.formats.judging import Tally
from producer.files.formats.verdicts import Verdict
from producer.files.layout import Lines
from producer.publishing.chunking import SourceRecord
from producer.schemas import Action

_COURSE = re.compile("course([0-9]{1,4})")
_STUDENT_TYPE = "1"
_ROLES = {
    "1": "manager", "2": "coursecreator", "3": "editingteacher", "4": "teacher", "5": "student",
    "6": "guest", "7": "user", "8": "frontpage",
}  # fmt: skip
"""The short names of roles by their numbers, as every installation of Moodle numbers them."""
_SUSPENDED = "suspended"
_DELETED = "deleted"
_YES = "1"


class _Group(NamedTuple):
    """The columns of one course of a line, by their positions; None if the file lacks one."""

    course: int
    role: int | None
    type: int | None
    status: int | None


def numbered_courses(
    rows: Iterator[Row | RefusedLine],
    names: Sequence[str],
    readers: Mapping[str, ColumnReader],
    account: Account,
    tally: Tally,
) -> Lines:
    """Yield the requests of each row: one for its courses, and one for each reason of a drop.

    `names` are those of the columns, folded. A row without a course of a student is passed over.
    """
    groups = _groups(names)
    student = identifier("username", readers["student_id"])
    deleted = names.index(_DELETED) if _DELETED in names else None
    for entry in rows:
        if not isinstance(entry, tuple):
            yield entry
            continue
        line, row = entry
        try:
            records = list(_requests(student(row), row, groups, deleted, line, tally))
        except BadCell as bad_cell:
            yield refused_line(line, row, bad_cell)
            continue
        if not records:
            account.skip()
        for record in records:
            yield SourceRecord(record, [line], [row])


def _groups(names: Sequence[str]) -> list[_Group]:
    places = {name: at for at, name in reversed(list(enumerate(names)))}
    numbers = [match[1] for match in map(_COURSE.fullmatch, names) if match]
    return [
        _Group(
            places[f"course{number}"],
            *(places.get(f"{name}{number}") for name in ("role", "type", "enrolstatus")),
        )
        for number in sorted(set(numbers), key=int)
    ]


def _requests(
    student: int | str,
    row: Sequence[str],
    groups: Sequence[_Group],
    deleted: int | None,
    line: int,
    tally: Tally,
) -> Iterator[dict[str, Any]]:
    """Yield the requests of a row. Raises BadCell."""
    courses: dict[tuple[Action, str], list[str]] = {}
    others: list[Verdict] = []
    for group in groups:
        course = row[group.course].strip()
        if not course:
            continue
        verdict = _verdict(group, row, is_deleted=_is_set(_DELETED, row, deleted))
        if verdict.action is PASS:
            others.append(verdict)
        else:
            listed = courses.setdefault((verdict.action, verdict.why), [])
            if course not in listed:
                listed.append(checked_text("course", course))
    if not courses:  # A line is counted once, whatever it holds besides.
        tally.add(line, others[0] if others else Verdict(PASS, NO_COURSE))
    for (action, reason), listed in courses.items():
        if action is DROP:
            tally.add(line, Verdict(DROP, reason))
        for start in range(0, len(listed), MAX_COURSES):
            some = listed[start : start + MAX_COURSES]
            record = {"student_id": student, COURSE_FIELDS[action]: some, "atomic": False}
            yield record | ({"reason": reason} if action is DROP else {})


def _role(text: str) -> str:
    """Return the short name of a role, folded. Raises BadCell for a number that is not known."""
    role = folded(text)
    if not (role.isascii() and role.isdigit()):
        return role
    if role not in _ROLES:
        raise BadCell(
            "role",
            f"{role[:20]!a} is the number of a role that only your Moodle knows; write its short"
            " name, for example student",
        )
    return _ROLES[role]


def _verdict(group: _Group, row: Sequence[str], *, is_deleted: bool) -> Verdict:
    """Return what one course of a row asks for; without a role and a type it is a student's.

    Raises BadCell.
    """
    role, type_ = _role(_text(row, group.role)), _text(row, group.type)
    if role and role != "student":
        return Verdict(PASS, role[:60])
    if not role and type_ not in ("", _STUDENT_TYPE):
        return Verdict(PASS, f"type {type_[:50]}")
    if is_deleted:
        return Verdict(DROP, _DELETED)
    return Verdict(DROP, _SUSPENDED) if _is_set("enrolstatus", row, group.status) else Verdict(KEEP)


def _is_set(name: str, row: Sequence[str], at: int | None) -> bool:
    """Return whether a cell is 1. Raises BadCell for a cell that is neither 1, 0 nor empty."""
    text = _text(row, at)
    if text not in ("", "0", _YES):
        raise BadCell(name, f"{text[:60]!a} is neither 0 nor 1; write 1 for a drop, or 0")
    return text == _YES


def _text(row: Sequence[str], at: int | None) -> str:
    return "" if at is None else row[at].strip()
