"""Open what `enroll submit` is given: files, packages of files, and standard input."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from producer.commands.resume import Files
from producer.commands.session import Session
from producer.errors import UnreadableFile
from producer.files.describing import Choices
from producer.files.formats.loose_files import files_together
from producer.files.formats.package_files import LooseFiles
from producer.files.formats.package_source import PackageSource
from producer.files.formats.packages import (
    AnySource,
    Package,
    open_input,
    open_stream_input,
    read_package,
)
from producer.files.notices import Notices
from producer.files.reader import FileSource, is_pipe

STANDARD_INPUT = "-"


class Input(NamedTuple):
    """A file that is submitted as one batch; `package` is the one that it belongs to.

    `name` is the argument of the command; `files` are those that it is read from, if they can be
    read again.
    """

    source: AnySource
    name: str
    files: Files | None
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
        together = _loose_files(names, choices)
        if together:
            inputs += _open_together(together, choices, stack)
        for name in names:
            if name not in together:
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


def _loose_files(names: Sequence[str], choices: Choices) -> list[str]:
    """Return the names of files that are read together, as a package."""
    paths = [Path(name) for name in dict.fromkeys(names) if name != STANDARD_INPUT]
    together = files_together(paths, choices)
    return [name for name in dict.fromkeys(names) if Path(name) in together]


def _open_together(names: Sequence[str], choices: Choices, stack: ExitStack) -> list[Input]:
    package = read_package(LooseFiles([Path(name) for name in names]), choices)
    stack.enter_context(package)
    package.check_not_empty()
    package.notices.add(
        f"{package.name} is read as one submission, because its files are of {package.title}."
    )
    files = tuple(map(Path, names))
    return [Input(source, package.name, files, package) for source in package.sources]


def _open(name: str, choices: Choices, stack: ExitStack) -> list[Input]:
    path = None if name == STANDARD_INPUT else Path(name)
    opened = _standard_input(choices) if path is None else open_input(path, choices)
    if not isinstance(opened, Package):
        return [Input(opened, name, path if isinstance(opened, FileSource) else None)]
    stack.enter_context(opened)
    opened.check_not_empty()
    again = None if path is None or is_pipe(path) else path
    return [Input(source, name, again, opened) for source in opened.sources]


def _standard_input(choices: Choices) -> AnySource | Package:
    if sys.stdin is None:
        raise UnreadableFile("Standard input is closed; pipe the records into the command.")
    return open_stream_input("standard input", sys.stdin.buffer, choices)
