"""Write the files that commands are told to write: whole, or not at all."""

import codecs
import contextlib
import errno
import io
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn, cast

import click
from click.shell_completion import CompletionItem

from producer.contract.printable import printable

_STANDARD_OUTPUT = "-"
_MAX_NAME = 200
"""The most bytes of a name that are repeated in that of the unfinished file beside it."""


class Output:
    """A file that a command writes, or standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.name = "<stdout>" if path == _STANDARD_OUTPUT else path
        """The name in messages."""

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield the file to write to.

        A file appears under its name once all of it is written. If the block raises, or the disk is
        full, what had this name before stays as it was. Devices and pipes are written as they are.
        Raises click.FileError if the file cannot be opened, and OSError, with the name of the file,
        if it cannot be written. What a terminal would obey is escaped on a terminal.
        """
        if self._path == _STANDARD_OUTPUT:
            yield cast("BinaryIO", _Terminal() if sys.stdout.isatty() else sys.stdout.buffer)
            sys.stdout.flush()
            return
        target = Path(os.path.realpath(self._path))
        try:
            file, unfinished = _open(target)
        except OSError as error:
            raise self._not_opened(error) from None
        try:
            with file:  # If the disk is full, closing the file fails.
                yield cast("BinaryIO", file)
            if unfinished is not None:
                unfinished.replace(target)
        except BaseException as error:
            if unfinished is not None:
                unfinished.unlink(missing_ok=True)
            if isinstance(error, OSError):
                self._not_written(error)
            raise

    def _not_opened(self, error: OSError) -> click.FileError:
        return click.FileError(self._path, hint=error.strerror or str(error))

    def _not_written(self, error: OSError) -> NoReturn:
        """Raise the error of a write, with the name of the file; the caller has cleaned up."""
        if error.errno is not None and error.errno != errno.EPIPE:
            raise OSError(error.errno, os.strerror(error.errno), self.name) from error
        raise error


class _Terminal(io.BufferedIOBase):
    """Standard output, if it is a terminal: text from outside cannot give it commands."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = self._decoder.decode(bytes(data)).removeprefix("\ufeff")
        sys.stdout.write(printable(text, keep="\r\n\t"))
        return len(data)


class OutputFile(click.ParamType[Output]):
    """The type of an option that names a file to write; `-` is standard output."""

    name = "filename"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's form
        param: click.Parameter,  # noqa: ARG002 - click's form
        incomplete: str,
    ) -> list[CompletionItem]:
        """Let the shell complete the name of a file."""
        return [CompletionItem(incomplete, type="file")]

    def convert(
        self,
        value: str | Output,
        param: click.Parameter | None,  # noqa: ARG002 - click's form
        ctx: click.Context | None,  # noqa: ARG002 - click's form
    ) -> Output:
        """Return what the command writes to."""
        return value if isinstance(value, Output) else Output(value)


def _open(target: Path) -> tuple[IO[bytes], Path | None]:
    """Return a file to write to, and its path if it has to be renamed in the end.

    Raises OSError, and leaves an existing file alone.
    """
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None:
        if not stat.S_ISREG(mode):  # A device or a pipe; a folder cannot be opened.
            return target.open("wb"), None
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not os.access(target.parent, os.W_OK | os.X_OK):
            return target.open("wb"), None
    start = os.fsdecode(os.fsencode(target.name)[:_MAX_NAME])
    unfinished = target.with_name(f".{start}.{secrets.token_hex(4)}.part")
    file = unfinished.open("xb")
    if mode is not None:
        unfinished.chmod(stat.S_IMODE(mode))
    return file, unfinished
