"""Read the files of one export together, as a package: rosters first, then enrollments."""

import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

from producer.errors import UnreadableFile
from producer.files.archives import open_archive
from producer.files.containers import ZIPS, Packed, is_table
from producer.files.delimited import find_header
from producer.files.describing import Choices, FirstLines, first_bytes, layout_of, read_first_lines
from producer.files.formats.base import Format, Members, Table, folded
from producer.files.formats.judging import judge_of
from producer.files.formats.manifest import Manifest, read_manifest
from producer.files.formats.package_files import ArchiveFiles, FolderFiles, PackageFiles
from producer.files.formats.registry import DETECTED, FormatChoice
from producer.files.formats.roles import Roles
from producer.files.formats.table_reader import column_reader, members_of
from producer.files.layout import FileLayout, Lines, Named
from producer.files.notices import Notices
from producer.files.reader import FileSource, StreamSource, io_errors_named
from producer.publishing.dating import moment_of_batch
from producer.schemas import Kind

_ORDER = (Kind.STUDENTS, Kind.COURSES, Kind.ENROLLMENTS)
"""The order in which the files of a package are submitted."""
_TABLES = (".csv", ".txt", ".tsv")


class _Header(NamedTuple):
    """A file of a package, and the names in its header, folded."""

    file_name: str
    first: FirstLines
    names: tuple[str, ...]


class PackageSource:
    """One file of a package, whose first lines have been checked.

    `batch_name` ends the id of its batch. `share` is not known while it is read.
    """

    share = None

    def __init__(
        self, files: PackageFiles, file_name: str, name: str, layout: FileLayout, batch_name: str
    ) -> None:
        self._files = files
        self.file_name = file_name
        self.name = name
        self.batch_name = batch_name
        self.layout = layout
        self.kind = layout.kind
        self.columns = layout.columns
        self.form = layout.form
        self.ordered = layout.ordered
        self.notices = layout.notices

    def batch_id(self, own_id: str) -> str:
        """Return the id of its batch, if the package is submitted under an id."""
        return f"{own_id}:{self.batch_name}"

    def records(self) -> Lines:
        """Yield every record from the beginning of the file. Raises UnreadableFile."""
        with io_errors_named(self.name), self._files.open(self.file_name) as content:
            yield from self.layout.read(content.file)

    def named(self) -> Iterator[Named]:
        """Yield which courses and students the file names. Raises UnreadableFile."""
        with io_errors_named(self.name), self._files.open(self.file_name) as content:
            if self.layout.named is not None:
                yield from self.layout.named(content.file)


AnySource = FileSource | StreamSource | PackageSource
"""What is submitted as one batch."""


class Package:
    """The files of one export: `sources`, in the order in which they are to be submitted.

    `notices` are about the package as a whole; `system` names the system that it comes from, if it
    has not our own files. Close it after the sources were read.
    """

    def __init__(
        self,
        files: PackageFiles,
        sources: tuple[PackageSource, ...],
        notices: Notices,
        system: str | None,
    ) -> None:
        self.name = files.name
        self.system = system
        self.title = system or "our own format"
        self.sources = sources
        self.notices = notices
        self._files = files
        self.roles: Roles | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def batch_ids(self, own_id: str) -> list[str]:
        """Return the ids of the batches of a package that is submitted under an id."""
        return [source.batch_id(own_id) for source in self.sources]

    def all_notices(self) -> Iterator[str]:
        """Yield what should be known of the package and its files."""
        yield from self.notices
        for source in self.sources:
            yield from source.notices

    def check_not_empty(self) -> None:
        """Raise UnreadableFile if there is nothing to submit."""
        if not self.sources:
            raise UnreadableFile(" ".join(self.notices))

    def close(self) -> None:
        """Close the files."""
        self._files.close()
        if self.roles is not None:
            self.roles.close()


def is_package(file: BinaryIO) -> bool:
    """Return whether a seekable file is a zip archive of several tables; it is left as it was."""
    start = file.tell()
    try:
        if file.read(4) not in ZIPS:
            return False
        file.seek(start)
        entries = zipfile.ZipFile(cast("BinaryIO", Packed(file))).infolist()
    except (
        zipfile.BadZipFile,
        struct.error,
        ValueError,
        OverflowError,
        EOFError,
        NotImplementedError,
    ):
        return False  # What is wrong with it is said where it is read.
    finally:
        file.seek(start)
    names = [entry.filename.casefold() for entry in entries if is_table(entry)]
    tables = [name for name in names if name.endswith(_TABLES)]
    return len(tables) > 1 or any(name.split("/")[-1] == "manifest.csv" for name in tables)


def open_package(path: Path, choices: Choices) -> Package | None:
    """Open a folder, or a zip archive with several tables; return None for any other file.

    Raises UnreadableFile, whose message names the file, the problem and the remedy.
    """
    with suppress(OSError):  # It is reported when the path is opened as a file.
        if path.is_dir():
            return read_package(FolderFiles(path), choices)
        if not path.is_file():
            return None
        file = path.open("rb")
        try:
            if is_package(file):
                return read_package(ArchiveFiles(open_archive(str(path), file), file), choices)
        except BaseException:
            file.close()
            raise
        file.close()
    return None


def read_package(files: PackageFiles, choices: Choices) -> Package:
    """Check the first lines of every file of a package, and what the package says of itself.

    Raises UnreadableFile.
    """
    notices = Notices()
    _check(files.name, choices)
    headers, others = _headers(files, choices, notices)
    chosen = choices.format.format
    known = chosen or _recognize(headers, files.sizes)
    manifest = _manifest(files, known)
    tables: dict[str, Table | None] = {header.file_name: None for header in headers}
    if known is not None:
        tables = {h.file_name: known.table_in_package(h.file_name, h.names) for h in headers}
        unread = [name for name, table in tables.items() if table is None]
        _notice_unread(files.name, [*unread, *others], known, notices)
        tables = {name: table for name, table in tables.items() if table is not None}
        manifest.compare(files.name, files.sizes, notices)
    roles = _roles(files, headers, tables)
    try:
        sources = _sources(files, tables, choices, known, roles)
    except BaseException:
        if roles is not None:
            roles.close()
        raise
    if not sources and not manifest.is_there:
        raise UnreadableFile(
            f"{files.name} has no file that can be read; it should hold the tables of students,"
            " courses and enrollments of one export."
        )
    _notice_missing(files.name, sources, manifest, notices)
    for source in sources:
        if manifest.is_bulk(source.file_name):
            source.layout = source.layout._replace(is_complete=True)
    package = Package(files, sources, notices, known.title if known else None)
    package.roles = roles
    return package


def _check(name: str, choices: Choices) -> None:
    """Raise UnreadableFile if an option cannot hold for every file of a package."""
    for option, is_set in (
        ("kind", choices.kind is not None),
        ("map", bool(choices.templates)),
        ("drop", choices.drop),
        ("sheet", choices.sheet is not None),
    ):
        if is_set:
            raise UnreadableFile(
                f"{name} holds several files, for which the option {option} cannot be used; submit"
                " the file that you mean by itself.",
                option,
            )


def _headers(
    files: PackageFiles, choices: Choices, notices: Notices
) -> tuple[list[_Header], list[str]]:
    """Return the headers of the tables, and the names of the files that are none or are empty."""
    headers: list[_Header] = []
    others: list[str] = []
    for file_name, size in sorted(files.sizes.items()):
        if not file_name.endswith(_TABLES):
            others.append(file_name)
        elif size == 0:
            notices.add(f"{file_name} in {files.name} is empty.")
        else:
            with files.open(file_name) as content:
                raw = first_bytes(content.file)
                first = read_first_lines(content, raw, choices.encoding, whole=True)
            names = find_header(content.name, first.text, {}).names
            headers.append(_Header(file_name, first, tuple(map(folded, names))))
    return headers, others


def _recognize(headers: Collection[_Header], names: Collection[str]) -> Format | None:
    """Return the format with the most of these files; None if no file is of a format."""

    def count(known: Format) -> int:
        found = sum(
            known.table_in_package(header.file_name, header.names) is not None for header in headers
        )
        return found + (len(names) if known.manifest in names else 0)

    best = max(DETECTED, key=count)
    return best if count(best) else None


def _manifest(files: PackageFiles, known: Format | None) -> Manifest:
    name = None if known is None else known.manifest
    if name is None or name not in files.sizes:
        return Manifest(is_there=False)
    with files.open(name) as content:
        raw = first_bytes(content.file)
        first = read_first_lines(content, raw, None, whole=False)
    return read_manifest(first.text)


def _notice_unread(package: str, names: Collection[str], known: Format, notices: Notices) -> None:
    for name in names:
        if not known.knows(name):
            notices.add(f"{name} in {package} is not a file of {known.title} and is not read.")
        elif any(table.kind and name in table.file_names for table in known.tables):
            raise UnreadableFile(
                f"{name} in {package} lacks columns that this file of {known.title} has: it needs"
                f" {_needed(known, name)}. Export it again with all its columns."
            )
        elif name not in {*known.passed_over, known.manifest}:
            notices.add(
                f"{name} in {package} is not read, because its header lacks columns of that file;"
                " export it again with all its columns."
            )


def _needed(known: Format, file_name: str) -> str:
    """Return the columns that a file of a package must have, in words."""
    table = next(table for table in known.tables if file_name in table.file_names)
    groups = (" or ".join(sorted(group)) for group in table.any_of)
    return ", ".join([*sorted(table.required), *groups])


def _notice_missing(
    package: str, sources: Collection[PackageSource], manifest: Manifest, notices: Notices
) -> None:
    if not sources:
        notices.add(f"{package} has no file but its manifest: there is nothing to change.")
    elif all(source.kind is not Kind.ENROLLMENTS for source in sources):
        notices.add(f"{package} has no file of enrollments, so only the roster is changed.")
    elif manifest.is_delta:
        return
    else:
        kinds = {source.kind for source in sources}
        for kind in (Kind.STUDENTS, Kind.COURSES):
            if kind not in kinds:
                notices.add(
                    f"{package} has no file of {kind}, so lines that name {kind} that the roster"
                    " does not have yet are refused."
                )


def _roles(
    files: PackageFiles,
    headers: Collection[_Header],
    tables: Mapping[str, Table | None],
) -> Roles | None:
    """Read who is a student, if a roster of the package depends on it. Raises UnreadableFile."""
    if all(table is None or table.members is Members.ALL for table in tables.values()):
        return None
    roles = Roles()
    try:
        for header in headers:
            table = tables.get(header.file_name)
            if table is not None and table.adds_members:
                roles.add(_members(files, header, table))
    except BaseException:
        roles.close()
        raise
    return roles


def _members(files: PackageFiles, header: _Header, table: Table) -> Iterator[tuple[str, bool]]:
    read = column_reader(table.adds_members, header.names)
    if read is None:
        return
    with files.open(header.file_name) as content:
        found = find_header(content.name, header.first.text, {})
        rows = found.row_reader(content.name, header.first.form.undecodable)
        judge = judge_of(table.rule, header.names, moment_of_batch().date(), UTC)
        yield from members_of(rows.read(header.first.form.as_utf8(content.file)), judge, read)


def _sources(
    files: PackageFiles,
    tables: Mapping[str, Table | None],
    choices: Choices,
    known: Format | None,
    roles: Roles | None,
) -> tuple[PackageSource, ...]:
    """Open the files that are submitted, in their order. Raises UnreadableFile."""
    opened: list[tuple[str, str, FileLayout, str]] = []
    for file_name, table in tables.items():
        if table is not None and table.kind is None:
            continue
        with files.open(file_name) as content:
            own = choices._replace(format=FormatChoice(known, table, roles))
            layout = layout_of(content, first_bytes(content.file), own, whole=True)
        name = layout.kind.value if table is None else table.name
        opened.append((file_name, content.name, layout, name))
    opened.sort(key=lambda entry: (_ORDER.index(entry[2].kind), entry[3], entry[0]))
    counts: dict[str, int] = {}
    sources = []
    for file_name, shown, layout, name in opened:
        number = counts[name] = counts.get(name, 0) + 1
        batch_name = name if number == 1 else f"{name}-{number}"
        sources.append(PackageSource(files, file_name, shown, layout, batch_name))
    return tuple(sources)
