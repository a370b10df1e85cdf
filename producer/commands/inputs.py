"""Open what `enroll submit` is given: files, packages of files, and standard input."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from producer.commands.session import Session
from producer.errors import UnreadableFile
from producer.files.archives import open_archive
from producer.files.describing import Choices
from producer.files.formats.package_files import ArchiveFiles
from producer.files.formats.packages import (
    AnySource,
    Package,
    PackageSource,
    is_package,
    open_package,
    read_package,
)
from producer.files.notices import Notices
from producer.files.reader import FileSource, StreamSource, open_path_chosen, open_pipe

STANDARD_INPUT = "-"


class Input(NamedTuple):
    """A file that is submitted as one batch; `package` is the one that it belongs to.

    `name` is the argument of the command; `path` is its path if it can be read again.
    """

    source: AnySource
    name: str
    path: Path | None
    package: Package | None = None

    def batch_id(self, own_id: str) -> str:
        """Return the id of the batch of an input that is submitted under an id."""
        source = self.source
        return source.batch_id(own_id) if isinstance(source, PackageSource) else own_id


@contextmanager
def opened_inputs(
    session: Session, names: Sequence[str], choices: Choices
) -> Iterator[list[Input]]:
    """Open every input, check its first lines, and print what was noticed.

    What is noticed until the inputs are closed is printed as well. Raises UnreadableFile.
    """
    with ExitStack() as stack:
        inputs: list[Input] = []
        for name in names:
            inputs += _open(name, choices, stack)
        notices = list(_notices(inputs))
        try:
            for noticed in notices:
                session.print_notices(noticed)
            yield inputs
        finally:  # What was noticed before an error is printed before the error.
            for noticed in notices:
                session.print_notices(noticed)


def _notices(inputs: Sequence[Input]) -> Iterator[Notices]:
    packages = {id(entry.package): entry.package for entry in inputs if entry.package is not None}
    yield from (package.notices for package in packages.values())
    yield from (entry.source.notices for entry in inputs)


def _open(name: str, choices: Choices, stack: ExitStack) -> list[Input]:
    path = None if name == STANDARD_INPUT else Path(name)
    package = _standard_package(choices) if path is None else open_package(path, choices)
    if package is not None:
        stack.enter_context(package)
        package.check_not_empty()
        return [Input(source, name, path, package) for source in package.sources]
    if path is None:
        return [Input(_standard_input(choices), name, None)]
    source = open_path_chosen(path, choices)
    return [Input(source, name, path if isinstance(source, FileSource) else None)]


def _standard_package(choices: Choices) -> Package | None:
    """Return the package on standard input, if it is one that can be read again."""
    if sys.stdin is None or not sys.stdin.buffer.seekable() or not is_package(sys.stdin.buffer):
        return None
    archive = open_archive("standard input", sys.stdin.buffer)
    return read_package(ArchiveFiles(archive, None), choices)


def _standard_input(choices: Choices) -> StreamSource:
    if sys.stdin is None:
        raise UnreadableFile("Standard input is closed; pipe the records into the command.")
    return open_pipe("standard input", sys.stdin.buffer, choices)
