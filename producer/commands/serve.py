"""Define `enroll serve`, which serves the HTTP front."""

import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from pydantic import SecretStr, ValidationError

from producer.commands.connection import find_broker
from producer.commands.connection_options import connection_options
from producer.commands.session import open_client
from producer.commands.terminal import tell
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.installation import how_to_install
from producer.web.tokens import TokensError, load_tokens

if TYPE_CHECKING:
    from producer.web.settings import HttpSettings

OPEN_FILES: Final = 65_536
"""The number of open files that a server process asks for; fewer if the hard limit is lower."""

EXIT_CODES = exit_codes(
    done="stopped with Ctrl-C", unreachable="the address cannot be listened on", interrupted=None
)
SERVE_EXAMPLES = """
\b
Examples:
  enroll serve
  enroll serve --host 0.0.0.0 --port 8080 --tokens tokens.txt
"""


@click.command(epilog=EXIT_CODES + SERVE_EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on.",
)
@connection_options()
@click.option(
    "--tokens",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="ENROLL_HTTP_TOKENS",
    show_envvar=True,
    help="A file with a line NAME SCOPES SHA256 for each allowed caller, for example"
    " `sis submit,lookup 9f86d081…`; `printf %s TOKEN | sha256sum` prints the hash.",
)
@click.option(
    "--audit",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ENROLL_HTTP_AUDIT",
    show_envvar=True,
    help="The folder for the audit files, which record who was shown whose data. With tokens, the"
    " default is enroll/audit in your state folder; without tokens, nothing is recorded.",
)
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="The number of server processes. Limits count for each of them.",
)
def serve(
    host: str,
    port: int,
    timeout: float,
    tokens: Path | None,
    audit: Path | None,
    processes: int,
    **_connection: Any,
) -> None:
    """Serve the HTTP front and its web page.

    Without tokens, the HTTP front listens only on loopback.
    """
    try:
        from producer.web.callers import is_loopback  # noqa: PLC0415 - an extra
        from producer.web.connections import BoundedProtocol  # noqa: PLC0415
        from producer.web.settings import HttpSettings  # noqa: PLC0415
    except ImportError as error:
        tell(
            f"Error: `enroll serve` needs the extra http, which is not installed ({error}). Install"
            f" it: {how_to_install('http')}"
        )
        sys.exit(ExitCode.USAGE)
    if tokens is None and not is_loopback(host):
        raise click.UsageError(
            f"Without tokens, the HTTP front listens only on loopback, not on {host}. To serve"
            " other machines, pass --tokens FILE, with a line NAME SCOPES SHA256 for each caller."
        )
    broker = find_broker(click.get_current_context())
    _check_tokens(tokens)
    results_url = broker.result_backend_url
    try:
        settings = HttpSettings(
            broker_url=SecretStr(broker.url),
            result_backend_url=SecretStr(results_url) if results_url else None,
            key_prefix=broker.key_prefix,
            timeout=timeout,
            http_tokens=tokens,
            http_audit=audit,
        )
    except ValidationError as error:
        raise click.UsageError(_settings_error(error)) from None
    _check_audit(settings)
    open_client(broker, timeout).close()  # Opening a client checks the URLs.
    _run(settings, host, port, processes, BoundedProtocol)


def _run(
    settings: "HttpSettings", host: str, port: int, processes: int, protocol: type[Any]
) -> None:
    """Serve until SIGINT or SIGTERM."""
    import uvicorn  # noqa: PLC0415 - an extra

    from producer import main  # noqa: PLC0415

    if processes > 1:
        os.environ |= _as_environment(settings)
    _allow_open_files()
    uvicorn.run(
        main.make_app(settings) if processes == 1 else f"{main.__name__}:app",
        host=host,
        port=port,
        workers=processes,
        http=protocol,
        timeout_graceful_shutdown=math.ceil(settings.http_grace),
        proxy_headers=bool(settings.http_proxies),
        forwarded_allow_ips=settings.http_proxies,
        server_header=False,
        access_log=False,
        use_colors=False if os.environ.get("NO_COLOR") else None,
    )


def _allow_open_files() -> None:
    """Raise the limit of open files, each of which may be a connection, as far as we may.

    The usual limit of 1,024 is used up by as many callers who connect and send nothing; then the
    questions about health fail, too.
    """
    try:
        import resource  # noqa: PLC0415 - Windows does not have it
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # Some systems have a lower limit of their own.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _as_environment(settings: "HttpSettings") -> dict[str, str]:
    """Return settings as the variables from which the server processes read them."""
    variables = {}
    for name, value in settings:
        secret = value.get_secret_value() if isinstance(value, SecretStr) else value
        variables[f"ENROLL_{name.upper()}"] = "" if secret is None else str(secret)
    return variables


def _check_tokens(tokens: Path | None) -> None:
    """Check the file of tokens, if there is one. Raises UsageError."""
    try:
        if tokens is not None:
            load_tokens(tokens)
    except TokensError as error:
        raise click.UsageError(f"--tokens {tokens}: {error}") from None


def _check_audit(settings: "HttpSettings") -> None:
    """Check that disclosures can be recorded, if they must be. Raises UsageError."""
    from producer.main import make_audit  # noqa: PLC0415 - an extra
    from producer.web.audit_files import AuditError  # noqa: PLC0415

    try:
        audit = make_audit(settings)
    except AuditError as error:
        raise click.UsageError(str(error)) from None
    if audit is not None:
        audit.close()


def _settings_error(error: ValidationError) -> str:
    """Name the invalid variables, without their values, which may be secret."""
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(f"ENROLL_{str(item['loc'][0]).upper()}: {item['msg']}" for item in details)
