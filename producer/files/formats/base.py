"""Define the types that describe a format: its files, their columns, and what a line asks for."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

from producer.schemas import Action, Kind

KEEP = Action.ENROLL
"""What a line asks for that enrolls a student, or that belongs to a roster."""
DROP = Action.DROP
PASS = None
"""What a line asks for that is passed over."""

NOT_NAMED = "not named as a student"
"""The role of a user that no file of a package calls a student."""
NO_COURSE = "no course"
"""What is counted of lines that name no course."""

Alternatives = tuple[str | tuple[str, ...], ...]
"""Columns of a file that one of ours is made from: the first one with text counts. Several names
in a tuple are joined by a space."""


class Shape(Enum):
    """What a line of a file of enrollments holds."""

    PAIR = "pair"
    """A student and a course; all lines count at the same moment."""
    OPERATION = "operation"
    """A student and a course; each line counts later than the one before it."""
    NUMBERED = "numbered"
    """A student and several courses, in columns whose names end in a number."""


class Members(Enum):
    """Whether the lines of a roster of users depend on the other files of their package."""

    ALL = "all"
    """Each line is a student, unless its own cells say something else."""
    STUDENTS = "students"
    """Users are students if another file, or a role in their own line, calls them so."""
    NOT_STAFF = "not staff"
    """Users that the other files call something else, and never a student, are passed over."""


def is_student(role: str) -> bool:
    """Return whether a role, folded, is exactly that of a student."""
    return role == "student"


@dataclass(frozen=True)
class Rule:
    """What a line asks for. Names of columns and words are written folded (`folded`).

    `roles` are columns, of which the first with text counts; `is_student` takes its text, folded.
    Without `roles`, each line is about a student. `words` is what a status means; an empty cell
    means `no_status`, which is refused if it is "". With `dates_need_both`, a line without one of
    its dates has none; a cell with a text of `no_dates` is empty. `no_role` is the role of a line
    without one; it is refused if that is "". `ended_word` is the status of a line that has ended
    with its class, if its end alone would not say so.
    """

    roles: tuple[str, ...] = ()
    is_student: Callable[[str], bool] = is_student
    no_role: str = ""
    status: str | None = None
    words: Mapping[str, Action | None] = field(default_factory=dict)
    no_status: str = ""
    begin: str | None = None
    end: str | None = None
    dates_need_both: bool = False
    no_dates: frozenset[str] = frozenset()
    ended_word: str = ""


@dataclass(frozen=True)
class Table:
    """One file of a format.

    `name` ends the id of its batch in a package. `kind` is None if the file only says something
    about the others. A header is recognized if it has all `required` columns and one of each of
    `any_of`, and none of `without`. `file_names` are its names in a package, folded. `columns`
    says what our columns are made from; a cell with one of the texts in `cleared` counts as empty.
    `adds_members` names the column with the users whose roles count for `members` of the roster.
    `is_terms` says that its lines are terms, whose ends end the classes that name them in
    `names_terms`, with commas between several. The lines of a table with `names_class` are parts of
    the class in that column, such as sections of a course, and end with it. `own_end` is a column
    with an end that counts if it is later. `may_be_open` says that lines without a term or an end
    are usual, and that lines of terms about others than students do not count.
    `is_shared` says that other files have the same columns, so that only its name decides.
    `is_staff` says that its lines are about people who are not students. `moments` are the columns
    with the time at which a line was last changed, of which the first that a header has counts.
    A file without a header is recognized by the first cell of its first line, one of `first_words`;
    it has the columns `unnamed`, of which all after the first `fewest` may be missing.
    """

    name: str
    kind: Kind | None
    columns: Mapping[str, Alternatives]
    required: frozenset[str]
    any_of: tuple[frozenset[str], ...] = ()
    without: frozenset[str] = frozenset()
    file_names: tuple[str, ...] = ()
    rule: Rule = field(default_factory=Rule)
    cleared: frozenset[str] = frozenset()
    members: Members = Members.ALL
    adds_members: Alternatives = ()
    is_terms: bool = False
    names_terms: Alternatives = ()
    names_class: Alternatives = ()
    own_end: str | None = None
    may_be_open: bool = False
    is_shared: bool = False
    is_staff: bool = False
    moments: tuple[str, ...] = ()
    shape: Shape = Shape.PAIR
    unnamed: tuple[str, ...] = ()
    fewest: int = 0
    first_words: frozenset[str] = frozenset()

    def lacks_header(self, names: Collection[str]) -> bool:
        """Return whether the cells of the first line, folded, are not names but a row."""
        first = next(iter(names), "").strip("'\" ")
        return first in self.first_words and self.fewest <= len(names) <= len(self.unnamed)

    def recognizes(self, names: Collection[str]) -> bool:
        """Return whether a header with these names, folded, is that of this file."""
        present = frozenset(names)
        return self.lacks_header(names) or (
            self.required <= present
            and all(group & present for group in self.any_of)
            and not self.without & present
        )

    def is_named(self, file_name: str) -> bool:
        """Return whether a name, folded, has that of this file as a word.

        `refused-student.csv` has the name of `student.csv`, and `nonstudent.csv` has not.
        """
        stems = (re.escape(name.removesuffix(".csv")) for name in self.file_names)
        return re.search(rf"(?<![a-z])(?:{'|'.join(stems)})(?![a-z])", file_name) is not None


@dataclass(frozen=True)
class Format:
    """A format: its `name` for options, its `title` for people, and its files.

    The files of a package are recognized by their names if `by_name`, else by their headers.
    `passed_over` are the names, folded, of other files that belong to such a package. `manifest` is
    the name of the file that says which of its files it has. `is_detected` is false if only the
    submitter can say that a file is of this format. `is_complete` is set if every export names all
    current enrollments of its sections. `named_tables` are files that are passed over, and whose
    headers could be our own: only their names show them.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    by_name: bool = False
    manifest: str | None = None
    passed_over: tuple[str, ...] = ()
    is_detected: bool = True
    is_complete: bool = False
    named_tables: tuple[Table, ...] = ()

    @property
    def shows_roles(self) -> bool:
        """Return whether some of its files say who is a student."""
        return any(table.rule.roles for table in self.tables)

    def table_of(self, names: Collection[str]) -> Table | None:
        """Return the table with a header of these names, folded; None if it is another file."""
        return next((table for table in self.tables if table.recognizes(names)), None)

    def table_alone(self, file_name: str, names: Collection[str]) -> Table | None:
        """Return the table of a file that comes alone; None if its name, folded, must decide.

        The name may be longer than the usual one, such as `refused-student.csv`, but it may not
        hold the names of two tables.
        """
        tables = [table for table in self.tables if table.recognizes(names)]
        if tables and not tables[0].is_shared:
            return tables[0]
        named = [table for table in tables if table.is_named(file_name)]
        return named[0] if len(named) == 1 else None

    def table_in_package(self, file_name: str, names: Collection[str]) -> Table | None:
        """Return the table of a file of a package, by its name, folded, and its header."""
        tables = (table for table in self.tables if table.recognizes(names))
        named = (table for table in tables if not self.by_name or file_name in table.file_names)
        return next(named, None)

    def knows(self, file_name: str) -> bool:
        """Return whether a file of this name, folded, belongs to a package of this format."""
        names = {name for table in self.tables for name in table.file_names}
        return file_name in {*names, *self.passed_over, self.manifest}


_INVISIBLE = "\ufeff\u200b \t\r\n\u00a0"


def folded(text: str) -> str:
    """Return the name of a column, or a word, as it is compared: stripped and casefolded."""
    return text.removeprefix("ï»¿").strip(_INVISIBLE).casefold()
