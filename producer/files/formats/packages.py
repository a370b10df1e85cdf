"""Read the files of one export together, as a package: rosters first, then enrollments."""

import struct
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Self, cast

from producer.errors import InvalidRequest, UnreadableFile
from producer.fields import MAX_REQUEST_ID
from producer.files.archives import open_archive, within
from producer.files.containers import ZIPS, Packed, is_table
from producer.files.delimited import find_header
from producer.files.describing import Choices, first_bytes, layout_of, read_first_lines
from producer.files.formats.base import Format, Table, folded
from producer.files.formats.manifest import Manifest, read_manifest
from producer.files.formats.package_facts import FactsReader, PackageFacts, PackageHeader
from producer.files.formats.package_files import ArchiveFiles, FolderFiles, PackageFiles
from producer.files.formats.package_notices import (
    check_moments,
    notice_missing,
    notice_unread,
)
from producer.files.formats.package_source import PackageSource, SharedMoment
from producer.files.formats.registry import DETECTED
from producer.files.layout import FileLayout
from producer.files.notices import Notices
from producer.files.reader import (
    FileSource,
    StreamSource,
    io_errors_named,
    is_pipe,
    open_source_chosen,
    seekable_archive,
)
from producer.schemas import Code, EnrollmentProblem, Kind

_ORDER = (Kind.STUDENTS, Kind.COURSES, Kind.ENROLLMENTS)
"""The order in which the files of a package are submitted."""
_TABLES = (".csv", ".txt", ".tsv")


AnySource = FileSource | StreamSource | PackageSource
"""What is submitted as one batch."""


class Package:
    """The files of one export: `sources`, in the order in which they are to be submitted.

    `notices` are about the package as a whole; `system` names the system that it comes from, if it
    has not our own files. `is_delta` is set if it says that it holds only what has changed. Close
    it after the sources were read.
    """

    def __init__(
        self,
        files: PackageFiles,
        sources: tuple[PackageSource, ...],
        notices: Notices,
        system: str | None,
        facts: PackageFacts,
    ) -> None:
        self.name = files.name
        self.system = system
        self.title = system or "our own format"
        self.sources = sources
        self.notices = notices
        self._files = files
        self.is_delta = False
        self._facts = facts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def batch_ids(self, own_id: str | None) -> list[str]:
        """Return the ids of the batches of a package; without an id of its own, it gets a new one.

        Raises InvalidRequest if one of them would be too long.
        """
        own_id = uuid.uuid4().hex if own_id is None else own_id
        ids = [source.batch_id(own_id) for source in self.sources]
        longest = max(ids, key=len, default=own_id)
        if len(longest) > MAX_REQUEST_ID:
            most = MAX_REQUEST_ID - len(longest) + len(own_id)
            message = (
                f"batch_id: {own_id[:20]!a}... has {len(own_id)} characters, and the batches of a"
                f" package add their names, such as {longest[len(own_id) :]}; shorten it to at most"
                f" {most} characters"
            )
            problem = EnrollmentProblem(
                code=Code.INVALID_REQUEST, field="batch_id", message=message
            )
            raise InvalidRequest((problem,))
        return ids

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
        self._facts.close()


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
        if path.is_file():
            file = path.open("rb")
            package = package_in(str(path), file, choices)
            if package is None:
                file.close()
            return package
    return None


def package_in(name: str, file: BinaryIO, choices: Choices) -> Package | None:
    """Return the package in a seekable file, which is closed with it; None for any other file.

    A file in which no package can be read is closed. Raises UnreadableFile.
    """
    try:
        if is_package(file):
            return read_package(ArchiveFiles(open_archive(name, file), file), choices)
    except BaseException:
        file.close()
        raise
    return None


def open_input(path: Path, choices: Choices) -> AnySource | Package:
    """Open a file, a package, or a pipe with one of them. Raises UnreadableFile."""
    if is_pipe(path):
        return open_stream_input(str(path), path.open("rb"), choices)
    package = open_package(path, choices)
    return package if package is not None else open_source_chosen(path, choices)


def open_stream_input(name: str, stream: BinaryIO, choices: Choices) -> AnySource | Package:
    """Open a stream, which may be a pipe that can be read once. Raises UnreadableFile."""
    with io_errors_named(name):
        file = seekable_archive(name, stream)
        package = package_in(name, file, choices) if file.seekable() else None
    return package if package is not None else StreamSource(name, file, choices)


@contextmanager
def opened_input(path: Path, choices: Choices) -> Iterator[AnySource | Package]:
    """Open a path as `open_input` does; close the files of a package afterwards."""
    opened = open_input(path, choices)
    with opened if isinstance(opened, Package) else nullcontext():
        yield opened


def read_package(files: PackageFiles, choices: Choices) -> Package:
    """Check the first lines of every file of a package, and what the package says of itself.

    Raises UnreadableFile.
    """
    notices = Notices()
    _check(files.name, choices)
    headers, others = _headers(files, choices, notices)
    known = choices.format.format
    if known is None and not choices.format.is_plain:
        known = _recognize(headers, files.sizes)
    manifest = _manifest(files, known)
    tables: dict[str, Table | None] = {header.file_name: None for header in headers}
    if known is not None:
        tables = {h.file_name: known.table_in_package(h.file_name, h.names) for h in headers}
        unread = {h.file_name: h.names for h in headers if tables[h.file_name] is None}
        unread |= dict.fromkeys(others, ())
        is_chosen = choices.format.format is not None
        notice_unread(files.name, unread, known, notices, is_chosen=is_chosen)
        tables = {name: table for name, table in tables.items() if table is not None}
        manifest.compare(files.name, files.sizes, notices)
    facts = PackageFacts()
    try:
        reader = FactsReader(files, headers, tables, facts)
        reader.read_roles()
        reader.read_terms(manifest, notices)
        sources = _sources(files, tables, choices, known, facts)
    except BaseException:
        facts.close()
        raise
    if choices.format.moments_from_file:
        check_moments(files.name, sources)
    if not sources and not manifest.is_there:
        raise UnreadableFile(
            f"{files.name} has no file that can be read; it should hold the tables of students,"
            " courses and enrollments of one export."
        )
    notice_missing(files.name, sources, manifest, notices)
    for source in sources:
        if manifest.is_bulk(source.file_name):
            source.layout = source.layout._replace(is_complete=True)
    package = Package(files, sources, notices, known.title if known else None, facts)
    package.is_delta = manifest.is_delta
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
) -> tuple[list[PackageHeader], list[str]]:
    """Return the headers of the tables, and the names of the files that are none or are empty."""
    headers: list[PackageHeader] = []
    others: list[str] = []
    for file_name, size in sorted(files.sizes.items()):
        if not file_name.endswith(_TABLES):
            others.append(file_name)
        elif size == 0:
            notices.add(f"{file_name} in {within(files.name)} is empty.")
        else:
            with files.open(file_name) as content:
                raw = first_bytes(content.file)
                first = read_first_lines(content, raw, choices.encoding, whole=True)
            names = find_header(content.name, first.text, {}).names
            headers.append(PackageHeader(file_name, first, tuple(map(folded, names))))
    return headers, others


def _recognize(headers: Collection[PackageHeader], names: Collection[str]) -> Format | None:
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


def _sources(
    files: PackageFiles,
    tables: Mapping[str, Table | None],
    choices: Choices,
    known: Format | None,
    facts: PackageFacts,
) -> tuple[PackageSource, ...]:
    """Open the files that are submitted, in their order. Raises UnreadableFile."""
    opened: list[tuple[str, str, FileLayout, str]] = []
    for file_name, table in tables.items():
        if table is not None and table.kind is None:
            continue
        with files.open(file_name) as content:
            choice = choices.format._replace(format=known, table=table)
            choice = choice._replace(roles=facts.roles, terms=facts.terms)
            own = choices._replace(format=choice)
            layout = layout_of(content, first_bytes(content.file), own, whole=True)
        name = layout.kind.value if table is None else table.name
        opened.append((file_name, content.name, layout, name))
    opened.sort(key=lambda entry: (_ORDER.index(entry[2].kind), entry[3], entry[0]))
    counts: dict[str, int] = {}
    sources, shared = [], SharedMoment()
    for file_name, shown, layout, name in opened:
        number = counts[name] = counts.get(name, 0) + 1
        batch_name = name if number == 1 else f"{name}-{number}"
        sources.append(PackageSource(files, file_name, shown, layout, batch_name, shared))
    return tuple(sources)
