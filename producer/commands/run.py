"""The commands that keep something running: the embedded stack, the tour, the HTTP front."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
from pydantic import SecretStr, ValidationError

from producer import stack
from producer.commands.exit_codes import EXIT_CODES, INTERRUPTED, USAGE
from producer.commands.session import broker_or_fail, fail, make_console, open_client
from producer.demo import run_demo
from producer.errors import EnrollmentError
from producer.tokens import TokensError, read_tokens

UP_EXAMPLES = """
\b
Examples:
  enroll up
  enroll up --folder /tmp/enroll-trial
"""
DEMO_EXAMPLES = """
\b
Examples:
  enroll demo
"""
SERVE_EXAMPLES = """
\b
Examples:
  enroll serve
  enroll serve --host 0.0.0.0 --port 8080 --tokens tokens.txt
"""


def _end_on_sigterm() -> None:
    """Let SIGTERM unwind like Ctrl-C does, so that whatever was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@click.command(epilog=EXIT_CODES + UP_EXAMPLES)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=stack.FOLDER,
    show_default=True,
    help="Where broker and database keep their files.",
)
def up(folder: Path) -> None:
    """Keep an embedded broker, database and worker running until Ctrl-C.

    The other commands find them when they run in the same folder or below it.
    """
    _end_on_sigterm()
    try:
        with stack.running(folder) as broker_url:
            click.echo(f"Running at {broker_url}; files and logs are in {folder}/.", err=True)
            click.echo("Try in a second terminal: enroll submit FILE. Ctrl-C stops.", err=True)
            while True:
                time.sleep(3600)
    except EnrollmentError as error:
        fail(error)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)


@click.command(epilog=EXIT_CODES + DEMO_EXAMPLES)
def demo() -> None:
    """Show it: start everything in a temporary folder, submit a sample, explain, stop."""
    _end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="enroll-demo-") as folder:
            run_demo(Path(folder), make_console())
    except EnrollmentError as error:
        fail(error)
    except KeyboardInterrupt:
        click.echo("Interrupted; everything that was started has been stopped.", err=True)
        sys.exit(INTERRUPTED)


@click.command(epilog=EXIT_CODES + SERVE_EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="The port."
)
@click.option("--broker", envvar="ENROLL_BROKER_URL", show_envvar=True, help="The broker's URL.")
@click.option(
    "--tokens",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="ENROLL_HTTP_TOKENS",
    show_envvar=True,
    help="Who may call: lines NAME SCOPES SHA256.",
)
def serve(host: str, port: int, broker: str | None, tokens: Path | None) -> None:
    """Serve the HTTP front and its page for people, on loopback unless there are tokens."""
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from producer.guard import is_loopback  # noqa: PLC0415
        from producer.main import HttpSettings, make_app  # noqa: PLC0415
    except ImportError as error:
        click.echo(
            "Error: `enroll serve` needs another part: pip install 'enrollment-worker[http]'"
            f" ({error}).",
            err=True,
        )
        sys.exit(USAGE)
    if tokens is None and not is_loopback(host):
        raise click.UsageError(
            f"Without tokens only loopback is served, not {host}: give --tokens FILE,"
            " with a line NAME SCOPES SHA256 for each caller."
        )
    url = broker_or_fail(broker)
    try:
        settings = HttpSettings(broker_url=SecretStr(url), http_tokens=tokens)
        if tokens is not None:
            read_tokens(tokens.read_text().splitlines())
    except ValidationError as error:
        raise click.UsageError(_settings_error(error)) from None
    except (TokensError, OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--tokens {tokens}: {error}") from None
    answers = settings.result_backend_url
    open_client(url, answers.get_secret_value() if answers else None, settings.timeout).close()
    uvicorn.run(
        make_app(settings),
        host=host,
        port=port,
        access_log=False,
        use_colors=False if os.environ.get("NO_COLOR") else None,
    )


def _settings_error(error: ValidationError) -> str:
    """Which variables cannot be meant, without their values."""
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"ENROLL_{str(one['loc'][0]).upper()}: {one['msg']}" for one in found)
