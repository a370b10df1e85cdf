"""Read the terms of a package and which terms its classes name, and notice what is missing.

What cannot be understood ends nothing: the classes that depend on it are never over.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import date

from producer.files.archives import within
from producer.files.formats.base import PASS, Table, folded
from producer.files.formats.dates import days_of, is_plausible, time_zone
from producer.files.formats.table_reader import Rows, column_reader
from producer.files.formats.terms import ClassTerms, Term, Terms
from producer.files.notices import Notices
from producer.publishing.dating import moment_of_batch

_COUNT = "count unless they have an end date of their own"
_SO = f"Lines of enrollments in these classes {_COUNT}"
_SO_IN_TERMS = f"Lines of enrollments in classes of such terms {_COUNT}"
_MAX_TEXT = 40
"""The most characters of a cell that are shown."""


class _Remarks:
    """Counts lines with a problem, and remembers the first of them with what it shows."""

    def __init__(self) -> None:
        self.count = 0
        self._first = ""

    def add(self, line: int, text: str) -> None:
        """Count a line."""
        if not self.count:
            self._first = f"line {line:,}: {text[:_MAX_TEXT]!a}" if text else f"line {line:,}"
        self.count += 1

    def counted(self, one: str, many: str) -> str:
        """Return how many there are and where the first is, in words."""
        if self.count == 1:
            return f"1 {one} ({self._first})"
        return f"{self.count:,} {many} (first in {self._first})"


class TermRows:
    """Reads the lines of a table of terms; `names` are those in its header, folded."""

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self._rule = rule = table.rule
        self._may_be_open = table.may_be_open
        self._role = column_reader(rule.roles, names)
        self._words = rule.words
        self._sis_id, self._status, self._begin, self._end = (
            column_reader(columns, names) or (lambda _row: "")
            for columns in (
                table.columns["sis_id"],
                (rule.status or "",),
                (rule.begin or "",),
                (rule.end or "",),
            )
        )
        self._zone = time_zone()
        self._today = moment_of_batch().astimezone(self._zone).date()
        self._unread = _Remarks()
        self._endless = _Remarks()

    def read(self, rows: Rows) -> Iterator[Term]:
        """Yield the terms."""
        for entry in rows:
            if not isinstance(entry, tuple):
                self._unread.add(entry.line, "")
                continue
            line, row = entry
            if self._is_of_others(row):
                continue
            is_deleted = self._words.get(folded(self._status(row)), True) is PASS
            end = None if is_deleted else self._end_of(line, row)
            yield Term(self._sis_id(row), end, is_deleted)

    def _is_of_others(self, row: Sequence[str]) -> bool:
        """Return whether the dates of a line are those of others than students."""
        if self._role is None:
            return False
        return not self._rule.is_student(folded(self._role(row)) or self._rule.no_role)

    def _end_of(self, line: int, row: Sequence[str]) -> date | None:
        """Return the last day that the end of a term can mean; None if it may not be meant."""
        text = self._end(row)
        if self._may_be_open and not text:
            return None
        begin, end = (days_of(cell, self._zone) for cell in (self._begin(row), text))
        if not end or not is_plausible(begin, end):
            self._endless.add(line, text)
            return None
        if min(end) < self._today <= max(end):
            self._endless.add(line, text)
        return max(end)

    def notice(self, name: str, notices: Notices) -> None:
        """Add a notice about lines that say nothing; `name` is that of the file."""
        if self._unread.count:
            shown = self._unread.counted("line cannot be read", "lines cannot be read")
            notices.add(
                f"{name}: {shown}. {_SO_IN_TERMS}; correct the file and submit the package again."
            )
        if self._endless.count:
            shown = self._endless.counted(
                "term has no end date that is certain", "terms have no end date that is certain"
            )
            notices.add(f"{name}: {shown}. {_SO_IN_TERMS}; write dates as 2026-09-01.")


class ClassRows:
    """Reads which terms the lines of a table of classes name, or which classes they are part of."""

    def __init__(self, table: Table, names: Sequence[str], terms: Terms) -> None:
        self._may_be_open = table.may_be_open
        self._classes_of = column_reader(table.names_class, names)
        self._own_end = column_reader((table.own_end,), names) if table.own_end else None
        self._zone = time_zone()
        self._sis_id = column_reader(table.columns["sis_id"], names) or (lambda _row: "")
        self._terms_of = column_reader(table.names_terms, names)
        self._terms = terms
        self._without = _Remarks()
        self._unknown = _Remarks()
        self._names_terms = False

    def read(self, rows: Rows) -> Iterator[ClassTerms]:
        """Yield the classes."""
        if self._terms_of is None and self._classes_of is None:
            return
        for entry in rows:
            if isinstance(entry, tuple):
                line, row = entry
                terms: Sequence[str] = ()
                if self._terms_of is not None:
                    terms = self._ids(self._terms_of(row))
                    self._remark(line, terms)
                classes = [self._classes_of(row)] if self._classes_of is not None else []
                yield ClassTerms(self._sis_id(row), terms, classes, self._end_of(row))

    def _end_of(self, row: Sequence[str]) -> date | None:
        """Return the last day that an end of its own can mean; a text that is no date is late."""
        text = "" if self._own_end is None else self._own_end(row)
        return max(days_of(text, self._zone), default=date.max) if text else None

    def _ids(self, text: str) -> Sequence[str]:
        if self._terms.knows(text):
            return [text]
        return [part for part in map(str.strip, re.split("[,;]", text)) if part]

    def _remark(self, line: int, terms: Sequence[str]) -> None:
        self._names_terms = self._names_terms or bool(terms)
        if not terms and self._may_be_open:
            return
        if not terms:
            self._without.add(line, "")
        elif unknown := next((term for term in terms if not self._terms.knows(term)), None):
            self._unknown.add(line, unknown)

    def notice(self, name: str, sessions: Collection[str], package: str, notices: Notices) -> None:
        """Add a notice about terms that are not known, if the file named `name` names terms.

        `sessions` are the names of the files of terms.
        """
        if not self._names_terms and not sessions:
            return  # A package without any terms is not about them.
        if not sessions:
            notices.add(
                f"{package} has no file academicSessions.csv that can be read, so classes do not"
                f" end with their terms. Lines of enrollments {_COUNT}; if terms have ended, export"
                " the package again with that file."
            )
        elif self._terms_of is None and not self._may_be_open:
            notices.add(
                f"{name} has no column termSourcedIds, so classes do not end with their terms."
                f" Lines of enrollments {_COUNT}; if terms"
                " have ended, export the package again with that column."
            )
        if sessions and self._without.count:
            shown = self._without.counted("class names no term", "classes name no term")
            notices.add(f"{name}: {shown}. {_SO}.")
        if sessions and self._unknown.count:
            shown = self._unknown.counted("class names a term", "classes name terms")
            notices.add(
                f"{name}: {shown} that {within(' and '.join(sessions))} lacks. {_SO}; if terms have"
                " ended, export the package again with all its terms."
            )
