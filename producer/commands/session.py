"""What commands share: the client they ask, how they answer, and how they fail."""

import contextlib
import errno
import functools
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import click
from rich.console import Console, RenderableType

from producer.client import EnrollmentClient
from producer.commands.exit_codes import INTERRUPTED, UNREACHABLE, USAGE
from producer.embedded import stack
from producer.errors import (
    BatchConflict,
    BrokerUnavailable,
    EnrollmentError,
    InvalidRequest,
    UnreadableFile,
)
from producer.schemas import ContractModel

IDS = """
An id is a SIS id; for our integer key write key:4711 (and sis:key:1 for a SIS id that
itself begins with key: or sis:).
"""

_BROKER_HELP = "The broker's URL; one with a password belongs into the variable, hidden from `ps`."


def make_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: an id such as `[red]` or `:x:` is no markup."""
    make = functools.partial(Console, stderr=stderr, highlight=False, markup=False, emoji=False)
    console = make()
    # A pipe has no width; lines for a program to read are not folded at 80 columns.
    return console if console.file.isatty() else make(width=200)


class Session:
    """One run of a command: where to ask, and how to answer."""

    def __init__(
        self, broker: str | None, result_backend: str | None, timeout: float, as_json: bool
    ) -> None:
        self.broker_url = broker_or_fail(broker)
        self.client = open_client(self.broker_url, result_backend, timeout)
        self.out = make_console()
        self.err = make_console(stderr=True)
        self.as_json = as_json

    def say(self, data: ContractModel | Sequence[ContractModel], shown: RenderableType) -> None:
        """Print an answer, for a machine as one line of JSON."""
        if not self.as_json:
            self.out.print(shown)
        elif isinstance(data, ContractModel):
            click.echo(data.model_dump_json())
        else:
            click.echo(json.dumps([one.model_dump(mode="json") for one in data]))


def broker_or_fail(given: str | None) -> str:
    """The broker's URL: the one given, or that of a running `enroll up`. Raises UsageError."""
    url = given or stack.find_broker_url()
    if url is None:
        raise click.UsageError(
            "No broker: give --broker or ENROLL_BROKER_URL, or run `enroll up` in this folder."
        )
    return url


def open_client(broker: str, result_backend: str | None, timeout: float) -> EnrollmentClient:
    """A client, which connects when it is used. Raises UsageError for URLs that cannot be meant."""
    try:
        return EnrollmentClient(broker, result_backend_url=result_backend, timeout=timeout)
    except ValueError as error:
        raise click.UsageError(
            f"{error} Mend --broker (ENROLL_BROKER_URL) or --result-backend"
            " (ENROLL_RESULT_BACKEND_URL)."
        ) from None


def with_session(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command the options that all share, and make its exit code of what it returns."""

    @click.option("--broker", envvar="ENROLL_BROKER_URL", show_envvar=True, help=_BROKER_HELP)
    @click.option(
        "--result-backend",
        envvar="ENROLL_RESULT_BACKEND_URL",
        show_envvar=True,
        help="Where answers come from; by default the broker.",
    )
    @click.option(
        "--timeout",
        envvar="ENROLL_TIMEOUT",
        show_envvar=True,
        default=10.0,
        show_default=True,
        type=click.FloatRange(0.1),
        help="Seconds to wait for an answer.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, a document a line.")
    @functools.wraps(command)
    def run(
        *args: Any,
        broker: str | None,
        result_backend: str | None,
        timeout: float,
        as_json: bool,
        **kwargs: Any,
    ) -> None:
        with _failing_with_exit_codes():
            session = Session(broker, result_backend, timeout, as_json)
            with session.client:
                code = command(session, *args, **kwargs)
        sys.exit(code)

    return run


@contextlib.contextmanager
def _failing_with_exit_codes() -> Iterator[None]:
    """End with a sentence and an exit code for whatever a command may meet."""
    try:
        yield
    except EnrollmentError as error:
        fail(error)
    except click.FileError as error:
        error.show()
        sys.exit(USAGE)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # The reader has seen enough; click ends it without a word.
        click.echo(
            f"Error: The output cannot be written: {error}. Correct that, and ask again.", err=True
        )
        sys.exit(USAGE)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)


def fail(error: EnrollmentError) -> NoReturn:
    """Say what is wrong, and end with the exit code of its kind."""
    hint = ""
    if isinstance(error, BrokerUnavailable):
        hint = " Is it running there, and is --broker (ENROLL_BROKER_URL) right?"
    click.echo(f"Error: {error}{hint}", err=True)
    wrong_input = isinstance(error, UnreadableFile | InvalidRequest | BatchConflict)
    sys.exit(USAGE if wrong_input else UNREACHABLE)


def parse_identifier(text: str) -> int | str:
    if text.startswith("sis:"):
        return text.removeprefix("sis:")
    if not text.startswith("key:"):
        return text
    digits = text.removeprefix("key:")
    if not (digits.isascii() and digits.isdigit()):
        raise click.UsageError(f"{text!r}: a key is an integer, as key:4711.")
    return int(digits)


def end_on_sigterm() -> None:
    """Let SIGTERM unwind like Ctrl-C does, so that whatever was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
