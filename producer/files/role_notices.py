"""Notice lines of a file that are not about students, as a column that is not read says."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from producer.contract.chunks import RefusedLine
from producer.files.cells import Row
from producer.files.formats.canvas import is_student_role
from producer.files.notices import Notices
from producer.schemas import Kind

_ROLES = (
    frozenset(
        f"{whose}{what}"
        for whose in ("", "user", "person", "member", "participant", "course", "section", "class")
        for what in ("role", "roles", "rolename", "roletype")
    )
    | {"usertype", "persontype", "membertype", "accounttype", "participanttype"}
    | {"declaredusertype"}
)
"""Columns of roles, without what joins their words."""
_TYPES = frozenset({
    "type", "position", "function", "category", "enrollmenttype", "enrolmenttype",
    "membershiptype", "baseroletype", "enrollmentrole", "enrolmentrole",
})  # fmt: skip
"""Columns that may hold roles, or something else: only names of other roles count there."""

_STUDENTS = frozenset({
    "", "alumno", "auditor", "estudiante", "learner", "learners", "pupil", "pupils", "schüler",
    "students", "studierende", "élève", "étudiant",
})  # fmt: skip
_OTHERS = re.compile(
    "teach|instruct|lecturer|professor|faculty|staff|admin|assistant|observer|designer|parent"
    "|guardian|tutor|coach|mentor|advis|counsel|manager|proctor|grader|librarian|principal"
    "|employee|^tas?$|aide",
)
_MAX_WORDS = 20
"""The most different roles that are counted by themselves."""

_WHAT_IS_DONE = {
    Kind.ENROLLMENTS: "the line enrolls its user all the same",
    Kind.STUDENTS: "the line stores its user as a student all the same",
}
_REMEDY = (
    "If only students are meant, remove the other lines; or name the system that the file comes"
    " from as its format"
)


class RoleColumn:
    """A column that may say who is a student; belongs to one file."""

    def __init__(self, at: int, name: str, *, is_role: bool) -> None:
        self.at = at
        self.name = name
        self._is_other = _is_other_role if is_role else _is_known_other
        self._verdicts: dict[str, bool] = {}

    def is_other(self, cell: str) -> bool:
        """Return whether a cell says that its line is not about a student."""
        verdict = self._verdicts.get(cell)
        if verdict is None:
            if len(self._verdicts) >= _MAX_WORDS * 50:
                self._verdicts.clear()
            verdict = self._verdicts[cell] = self._is_other(cell.strip().casefold())
        return verdict


def find_roles(unread: Sequence[tuple[int, str]]) -> RoleColumn | None:
    """Return the column of roles among those that are not read, by position and name."""
    plain = {re.sub(r"[\W_]+", "", name).casefold(): (at, name) for at, name in reversed(unread)}
    for names, is_role in ((_ROLES, True), (_TYPES, False)):
        found = next((plain[name] for name in plain if name in names), None)
        if found is not None:
            return RoleColumn(*found, is_role=is_role)
    return None


def _is_other_role(text: str) -> bool:
    return text not in _STUDENTS and not is_student_role(text)


def _is_known_other(text: str) -> bool:
    return _OTHERS.search(text) is not None and not is_student_role(text)


def noticing_roles(
    path: str,
    kind: Kind,
    rows: Iterator[Row | RefusedLine],
    column: RoleColumn,
    notices: Notices,
    *,
    is_whole: bool,
) -> Iterator[Row | RefusedLine]:
    """Yield the rows; add a notice at the first one that is not about a student.

    Another one, at the end of the whole file, counts such lines if there are several.
    """
    counts: Counter[str] = Counter()
    at = column.at
    for entry in rows:
        yield entry
        if not isinstance(entry, tuple) or not column.is_other(entry[1][at]):
            continue
        line, row = entry
        role = row[at].strip().casefold()[:60]
        if not counts:
            notices.add(
                f"{path}: line {line:,} has {row[at].strip()[:60]!a} in the column"
                f" {column.name[:60]!a}, which is not read: {_WHAT_IS_DONE[kind]}. {_REMEDY}."
            )
        counts[role if role in counts or len(counts) < _MAX_WORDS else "others"] += 1
    if counts.total() > 1 and is_whole:
        shown = ", ".join(f"{count:,} {role!a}" for role, count in counts.most_common())
        notices.add(
            f"{path}: {counts.total():,} lines are read although the column {column.name[:60]!a}"
            f" says that they are not about students: {shown}."
        )
