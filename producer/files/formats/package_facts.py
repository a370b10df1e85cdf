"""Read what the files of a package say of lines in its other files: who is a student, what is over.

This is read before the first batch is submitted, in one pass through each of the files.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import NamedTuple

from producer.files.delimited import find_header
from producer.files.describing import FirstLines
from producer.files.formats.base import Members, Table
from producer.files.formats.judging import judge_of
from producer.files.formats.manifest import Manifest
from producer.files.formats.package_files import PackageFiles
from producer.files.formats.roles import Roles
from producer.files.formats.table_reader import Rows, column_reader, members_of
from producer.files.formats.term_tables import ClassRows, TermRows
from producer.files.formats.terms import Terms
from producer.files.notices import Notices
from producer.publishing.dating import moment_of_batch
from producer.schemas import Kind


class PackageHeader(NamedTuple):
    """A file of a package, and the names in its header, folded."""

    file_name: str
    first: FirstLines
    names: tuple[str, ...]


class PackageFacts:
    """The roles of users and the ends of terms, each None if the files do not depend on them."""

    def __init__(self) -> None:
        self.roles: Roles | None = None
        self.terms: Terms | None = None

    def close(self) -> None:
        """Remove what is stored of them."""
        for stored in (self.roles, self.terms):
            if stored is not None:
                stored.close()


class FactsReader:
    """Reads the facts of a package into `facts`, which its caller closes, also after an error.

    `tables` has the tables of its files, by their names.
    """

    def __init__(
        self,
        files: PackageFiles,
        headers: Collection[PackageHeader],
        tables: Mapping[str, Table | None],
        facts: PackageFacts,
    ) -> None:
        self._files = files
        self._facts = facts
        self._tables = [
            (header, table)
            for header in headers
            if (table := tables.get(header.file_name)) is not None
        ]

    def read_roles(self) -> None:
        """Read who is a student, if a roster depends on it. Raises UnreadableFile."""
        if all(table.members is Members.ALL for _, table in self._tables):
            return
        roles = self._facts.roles = Roles()
        for header, table in self._tables:
            if table.adds_members:
                roles.add(self._members(header, table))

    def _members(self, header: PackageHeader, table: Table) -> Iterator[tuple[str, bool]]:
        read = column_reader(table.adds_members, header.names)
        if read is not None:
            judge = judge_of(table.rule, header.names, moment_of_batch().date(), UTC)
            with self._opened(header) as (_, rows):
                yield from members_of(rows, judge, read)

    def read_terms(self, manifest: Manifest, notices: Notices) -> None:
        """Read when the classes end, if there are enrollments and classes that name their terms.

        Adds a notice about each part that is missing, except in a package of changes, which need
        not have it. Raises UnreadableFile.
        """
        classes = [(header, table) for header, table in self._tables if table.names_terms]
        parts = [(header, table) for header, table in self._tables if table.names_class]
        if not classes or all(table.kind is not Kind.ENROLLMENTS for _, table in self._tables):
            return
        sessions = [(header, table) for header, table in self._tables if table.is_terms]
        if not sessions and all(table.may_be_open for _, table in classes):
            return
        terms = self._facts.terms = Terms()
        names_of_files = []
        for header, table in sessions:
            with self._opened(header) as (name, rows):
                reading = TermRows(table, header.names)
                terms.add_terms(reading.read(rows))
                reading.notice(name, notices)
                names_of_files.append(name)
        for header, table in classes + parts:
            with self._opened(header) as (name, rows):
                classes_reading = ClassRows(table, header.names, terms)
                terms.add_classes(classes_reading.read(rows))
                if not manifest.is_delta:
                    classes_reading.notice(name, names_of_files, self._files.name, notices)

    @contextmanager
    def _opened(self, header: PackageHeader) -> Iterator[tuple[str, Rows]]:
        """Open a file; yield its name in messages, and its rows."""
        with self._files.open(header.file_name) as content:
            found = find_header(content.name, header.first.text, {})
            rows = found.row_reader(content.name, header.first.form.undecodable)
            yield content.name, rows.read(header.first.form.as_utf8(content.file))
