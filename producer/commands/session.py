"""Define what the commands share: the client, the output, the options and the exit codes."""

import contextlib
import errno
import functools
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import click
from rich.console import RenderableType
from rich.text import Text

from producer.client import EnrollmentClient
from producer.commands.connection import Broker, find_broker
from producer.commands.connection_options import CONNECTION_NAMES, connection_options
from producer.commands.terminal import make_console, print_json, tell
from producer.contract.exit_codes import ExitCode
from producer.errors import (
    BatchCannotFinish,
    BatchConflict,
    BrokerUnavailable,
    EnrollmentError,
    InvalidRequest,
    UnreadableFile,
)
from producer.files.notices import Notices
from producer.schemas import ContractModel

IDS = """
Students and courses are named by their SIS ids. To name one by our integer key, write key:4711.
If a SIS id itself begins with key: or sis:, write sis: before it, for example sis:key:1.
"""


class Session:
    """One run of a command: its client, which is opened when it is first used, and its output."""

    def __init__(self, context: click.Context, as_json: bool) -> None:
        self._context = context
        self._open: list[EnrollmentClient] = []
        self.out = make_console()
        self.err = make_console(stderr=True)
        self.as_json = as_json

    @functools.cached_property
    def broker(self) -> Broker:
        """Return the broker that the options, the variables or a folder name. Raises UsageError."""
        return find_broker(self._context)

    @functools.cached_property
    def client(self) -> EnrollmentClient:
        """Return the client. Raises UsageError."""
        self._open.append(open_client(self.broker, self._context.params["timeout"]))
        return self._open[0]

    @property
    def on_terminal(self) -> bool:
        """Return whether the output can be redrawn."""
        return self.out.is_interactive and self.out.file.isatty()

    def close(self) -> None:
        """Close the client, if it was opened."""
        for client in self._open:
            client.close()

    def show(self, data: ContractModel | Sequence[ContractModel], text: RenderableType) -> None:
        """Print the text for people; with `--json`, print each model as one line of JSON."""
        if not self.as_json:
            self.out.print(text)
            return
        for model in [data] if isinstance(data, ContractModel) else data:
            print_json(model)

    def show_line(self, data: ContractModel, line: Text) -> None:
        """Do as `show` does, with a text that is one line however wide the terminal is."""
        if self.as_json:
            print_json(data)
        else:
            self.out.print(line, soft_wrap=True)

    def print_notices(self, notices: Notices) -> None:
        """Print the notices that were not printed yet on standard error."""
        for sentence in notices.take_new():
            self.err.print(f"Notice: {sentence}", style="yellow", soft_wrap=True)

    def show_with_notices(
        self,
        data: ContractModel,
        text: RenderableType,
        notices: Notices,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Print new notices on standard error; then do as `show` does.

        JSON has all notices, and the fields of `more`.
        """
        self.print_notices(notices)
        if self.as_json:
            print_json({**data.model_dump(), **more, "notices": list(notices)})
        else:
            self.out.print(text)


def open_client(broker: Broker, timeout: float) -> EnrollmentClient:
    """Create a client, which connects when it is used. Raises UsageError for an invalid URL."""
    try:
        return EnrollmentClient(
            broker.url,
            result_backend_url=broker.result_backend_url,
            timeout=timeout,
            key_prefix=broker.key_prefix,
        )
    except ValueError as error:
        raise click.UsageError(
            f"{error} Correct --broker (ENROLL_BROKER_URL) or --result-backend"
            " (ENROLL_RESULT_BACKEND_URL)."
        ) from None


def session_options(timeout_name: str) -> Callable[[Callable[..., int]], Callable[..., None]]:
    """Return a decorator that adds the shared options to a command.

    The number that the command returns becomes its exit code. `timeout_name` is the name of the
    option for the wait for a worker; a command may have a `--timeout` of its own.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., None]:
        @connection_options(timeout_name)
        @click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
        @functools.wraps(command)
        def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
            own = {name: value for name, value in kwargs.items() if name not in CONNECTION_NAMES}
            with _failing_with_exit_codes():
                session = Session(click.get_current_context(), as_json)
                with contextlib.closing(session):
                    code = command(session, *args, **own)
            sys.exit(code)

        command_with_options: Callable[..., None] = run
        return command_with_options

    return decorate


with_session = session_options("--timeout")


@contextlib.contextmanager
def _failing_with_exit_codes() -> Iterator[None]:
    """Turn the errors that a command may raise into a message and an exit code."""
    try:
        yield
    except EnrollmentError as error:
        fail(error)
    except click.FileError as error:
        tell(f"Error: {error.format_message()}")
        sys.exit(ExitCode.USAGE)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # The reader of the pipe has closed it; click then exits silently.
        tell(
            f"Error: The output cannot be written: {error}. Correct this, then run the command"
            " again."
        )
        sys.exit(ExitCode.USAGE)


def fail(error: EnrollmentError) -> NoReturn:
    """Print the error, and exit with the code for its kind."""
    message = str(error)
    if isinstance(error, BrokerUnavailable) and "its URL" in error.remedy:
        message += (
            " The URL comes from --broker (ENROLL_BROKER_URL) or, for result keys, from"
            " --result-backend (ENROLL_RESULT_BACKEND_URL)."
        )
    if isinstance(error, UnreadableFile) and error.options:
        names = " and ".join(f"--{option}" for option in error.options)
        message += f" See {names} in `enroll submit --help`."
    tell(f"Error: {message}")
    if isinstance(error, BatchCannotFinish):
        sys.exit(ExitCode.CANNOT_FINISH)
    wrong_input = isinstance(error, UnreadableFile | InvalidRequest | BatchConflict)
    sys.exit(ExitCode.USAGE if wrong_input else ExitCode.UNREACHABLE)


MAX_DIGITS = 20
"""The number of digits of a key that are read; Python refuses to read thousands of them."""


def parse_identifier(text: str) -> int | str:
    """Return the key in `key:4711`, or else the SIS id. Raises UsageError."""
    if text.startswith("sis:"):
        return text.removeprefix("sis:")
    if not text.startswith("key:"):
        return text
    digits = text.removeprefix("key:")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        raise click.UsageError(
            f"{text!r} is not a valid key; write an integer after key:, for example key:4711."
        )
    return int(digits)


def end_on_signals() -> None:
    """Make SIGTERM and SIGHUP end the program like Ctrl-C, so that it stops what it started.

    A closed terminal sends SIGHUP; where `nohup` has switched it off, it stays off.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
