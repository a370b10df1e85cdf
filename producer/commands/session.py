"""Define what the commands share: the client, the output, the options and the exit codes."""

import contextlib
import errno
import functools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import click
from rich.console import RenderableType

from producer.broker_search import find_broker
from producer.client import EnrollmentClient
from producer.commands.exit_codes import CANNOT_FINISH, INTERRUPTED, UNREACHABLE, USAGE
from producer.commands.terminal import make_console, print_json, tell
from producer.contract.keys import check_key_prefix
from producer.errors import (
    BatchCannotFinish,
    BatchConflict,
    BrokerNotFound,
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

_BROKER_HELP = (
    "The broker's URL. Put a URL with a password into the variable, because `ps` shows options."
)


class Session:
    """One run of a command: its client, which is opened when it is first used, and its output."""

    def __init__(
        self,
        broker: str | None,
        result_backend: str | None,
        timeout: float,
        as_json: bool,
        key_prefix: str,
    ) -> None:
        self._given = (broker, result_backend, timeout, key_prefix)
        self._open: list[EnrollmentClient] = []
        self.out = make_console()
        self.err = make_console(stderr=True)
        self.as_json = as_json

    @functools.cached_property
    def broker(self) -> tuple[str, str]:
        """Return the URL of the broker and the prefix of its keys. Raises UsageError."""
        broker, _, _, key_prefix = self._given
        return broker_or_fail(broker, key_prefix)

    @functools.cached_property
    def client(self) -> EnrollmentClient:
        """Return the client. Raises UsageError."""
        _, result_backend, timeout, _ = self._given
        url, key_prefix = self.broker
        self._open.append(open_client(url, result_backend, timeout, key_prefix))
        return self._open[0]

    def close(self) -> None:
        """Close the client, if it was opened."""
        for client in self._open:
            client.close()

    def show(self, data: ContractModel | Sequence[ContractModel], text: RenderableType) -> None:
        """Print the text for people, or the data as one line of JSON if `--json` was given."""
        if not self.as_json:
            self.out.print(text)
        elif isinstance(data, ContractModel):
            print_json(data.model_dump(mode="json"))
        else:
            print_json([model.model_dump(mode="json") for model in data])

    def print_notices(self, notices: Notices) -> None:
        """Print the notices that were not printed yet on standard error."""
        for sentence in notices.take_new():
            self.err.print(f"Notice: {sentence}", style="yellow", soft_wrap=True)

    def show_with_notices(
        self, data: ContractModel, text: RenderableType, notices: Notices
    ) -> None:
        """Print new notices on standard error; then do as `show` does, with all notices in JSON."""
        self.print_notices(notices)
        if self.as_json:
            print_json({**data.model_dump(mode="json"), "notices": list(notices)})
        else:
            self.out.print(text)


def broker_or_fail(broker: str | None, key_prefix: str) -> tuple[str, str]:
    """Return the given URL of the broker and prefix of keys, or those of a running `enroll up`.

    Raises UsageError.
    """
    if broker:
        return broker, key_prefix
    try:
        found = find_broker()
    except BrokerNotFound:
        raise click.UsageError(
            "The broker's URL is missing: pass --broker or set ENROLL_BROKER_URL, or run"
            " `enroll up` in this folder or one above it."
        ) from None
    return found.url, key_prefix or found.key_prefix


def open_client(
    broker: str, result_backend: str | None, timeout: float, key_prefix: str
) -> EnrollmentClient:
    """Create a client, which connects when it is used. Raises UsageError for an invalid URL."""
    try:
        return EnrollmentClient(
            broker, result_backend_url=result_backend, timeout=timeout, key_prefix=key_prefix
        )
    except ValueError as error:
        raise click.UsageError(
            f"{error} Correct --broker (ENROLL_BROKER_URL) or --result-backend"
            " (ENROLL_RESULT_BACKEND_URL)."
        ) from None


def _checked_prefix(_context: click.Context, _option: click.Parameter, prefix: str) -> str:
    try:
        return check_key_prefix(prefix)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


key_prefix_option = click.option(
    "--key-prefix",
    envvar="ENROLL_KEY_PREFIX",
    show_envvar=True,
    default="",
    callback=_checked_prefix,
    help="The prefix of every key of the deployment in Redis; by default there is none.",
)


def with_session(command: Callable[..., int]) -> Callable[..., None]:
    """Add the shared options to a command; the number that it returns becomes its exit code."""

    @click.option("--broker", envvar="ENROLL_BROKER_URL", show_envvar=True, help=_BROKER_HELP)
    @click.option(
        "--result-backend",
        envvar="ENROLL_RESULT_BACKEND_URL",
        show_envvar=True,
        help="The URL of the Redis for result keys and marks; by default the broker's.",
    )
    @click.option(
        "--timeout",
        envvar="ENROLL_TIMEOUT",
        show_envvar=True,
        default=10.0,
        show_default=True,
        type=click.FloatRange(0.1),
        help="Seconds to wait for a worker's answer.",
    )
    @key_prefix_option
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one document per line.")
    @functools.wraps(command)
    def run(
        *args: Any,
        broker: str | None,
        result_backend: str | None,
        timeout: float,
        as_json: bool,
        key_prefix: str,
        **kwargs: Any,
    ) -> None:
        with _failing_with_exit_codes():
            session = Session(broker, result_backend, timeout, as_json, key_prefix)
            with contextlib.closing(session):
                code = command(session, *args, **kwargs)
        sys.exit(code)

    return run


@contextlib.contextmanager
def _failing_with_exit_codes() -> Iterator[None]:
    """Turn the errors that a command may raise into a message and an exit code."""
    try:
        yield
    except EnrollmentError as error:
        fail(error)
    except click.FileError as error:
        error.show()
        sys.exit(USAGE)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # The reader of the pipe has closed it; click then exits silently.
        tell(
            f"Error: The output cannot be written: {error}. Correct this, then run the command"
            " again."
        )
        sys.exit(USAGE)
    except KeyboardInterrupt:
        tell("Interrupted.")
        sys.exit(INTERRUPTED)


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
        sys.exit(CANNOT_FINISH)
    wrong_input = isinstance(error, UnreadableFile | InvalidRequest | BatchConflict)
    sys.exit(USAGE if wrong_input else UNREACHABLE)


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


def end_on_sigterm() -> None:
    """Make SIGTERM end the program like Ctrl-C, so that it stops everything that it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
