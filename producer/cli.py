"""The command `enroll`: data on standard output, talk and progress on standard error."""

import functools
import gc
import json
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
from pydantic import SecretStr
from rich.console import Console, RenderableType

from producer import demo as tour
from producer import display, files, refusals, stack
from producer.client import MAX_QUEUED, EnrollmentClient
from producer.errors import BatchConflict, EnrollmentError, InvalidRequest, UnreadableFile
from producer.journal import Journal
from producer.progress import submit_source
from producer.schemas import BatchStatus, Kind, Message, RequestStatus

REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

EXIT_CODES = """
\b
Exit codes: 0 all good, 1 something was refused or is unknown,
2 wrong usage or an unreadable file, 3 broker or worker not reachable,
130 interrupted.
"""
IDS = """
An id is a SIS id; for our integer key write key:4711 (and sis:key:1 for a SIS id that
itself begins with key: or sis:).
"""


_BROKER_HELP = "The broker's URL; one with a password belongs into the variable, hidden from `ps`."
_CSV_HELP = "Write every refused line with its cells and the reason, to be mended and submitted."
_JSONL_HELP = "Write the refused records as JSON Lines, as they were submitted."


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    # A pipe has no width; lines for a program to read are not folded at 80 columns.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def _identifier(text: str) -> int | str:
    if text.startswith("sis:"):
        return text.removeprefix("sis:")
    if not text.startswith("key:"):
        return text
    digits = text.removeprefix("key:")
    if not (digits.isascii() and digits.isdigit()):
        raise click.UsageError(f"{text!r}: a key is an integer, as key:4711.")
    return int(digits)


class Session:
    """One run of a command: where to ask, and how to answer."""

    def __init__(
        self, broker: str | None, result_backend: str | None, timeout: float, as_json: bool
    ) -> None:
        url = broker or stack.find_broker_url()
        if url is None:
            raise click.UsageError(
                "No broker: give --broker or ENROLL_BROKER_URL, or run `enroll up` in this folder."
            )
        try:
            self.client = EnrollmentClient(url, result_backend_url=result_backend, timeout=timeout)
        except ValueError as error:
            raise click.UsageError(f"{error} (--result-backend)") from None
        self.out = _console()
        self.err = _console(stderr=True)
        self._as_json = as_json

    def say(self, data: Message | Sequence[Message], shown: RenderableType) -> None:
        """Print an answer, for a machine as one line of JSON."""
        if not self._as_json:
            self.out.print(shown)
        elif isinstance(data, Message):
            click.echo(data.model_dump_json())
        else:
            click.echo(json.dumps([one.model_dump(mode="json") for one in data]))


def _with_session(command: Callable[..., int]) -> Callable[..., None]:
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
        try:
            session = Session(broker, result_backend, timeout, as_json)
            with session.client:
                code = command(session, *args, **kwargs)
        except EnrollmentError as error:
            _fail(error)
        sys.exit(code)

    return run


def _fail(error: EnrollmentError) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    wrong_input = isinstance(error, UnreadableFile | InvalidRequest | BatchConflict)
    sys.exit(USAGE if wrong_input else UNREACHABLE)


class _Commands(click.Group):
    """The commands of this file, and those that other installed parts bring.

    Theirs are the entry points `enroll.commands`, imported when they are used: a submitter needs
    no SQL, and the help is quick.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; None if there is none."""
        own = super().get_command(ctx, cmd_name)
        brought = None if own else _brought().get(cmd_name)
        if brought is None:
            return own
        try:
            command: click.Command = brought.load()
        except ImportError as error:
            raise click.UsageError(
                f"`enroll {cmd_name}` acts on the database, which needs another part:"
                f" pip install 'enrollment-worker[worker]' ({error})."
            ) from None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help's list of commands."""
        super().format_commands(ctx, formatter)
        if brought := _brought():
            with formatter.section("Commands of the operator, on the database"):
                formatter.write_dl([(name, f"See: enroll {name} --help") for name in brought])


def _brought() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group="enroll.commands"))}


@click.group(
    cls=_Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="enrollment-worker")
def enroll() -> None:
    """Enroll students in courses through the queue, and ask what became of it."""


@enroll.command(epilog=EXIT_CODES)
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--kind",
    type=click.Choice([k.value for k in Kind]),
    help="What the records are; by default the header tells.",
)
@click.option(
    "--map",
    "maps",
    metavar="COLUMN=TEMPLATE",
    multiple=True,
    help="Make one of our columns of the file's own: --map course_sis_id='{module}-{term}'.",
)
@click.option("--no-wait", is_flag=True, help="Print the batch id and return once it is queued.")
@click.option(
    "--batch-id",
    metavar="NAME",
    help="Name the batch of the one file: submitted again, only what is missing is done.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with what was interrupted; only what is missing is done."
)
@click.option(
    "--max-queued",
    envvar="ENROLL_MAX_QUEUED",
    show_envvar=True,
    default=MAX_QUEUED,
    show_default=True,
    type=click.IntRange(1),
    help="Chunks that may wait in the queue.",
)
@_with_session
def submit(
    session: Session,
    paths: tuple[Path, ...],
    kind: str | None,
    maps: Sequence[str],
    no_wait: bool,
    batch_id: str | None,
    resume: bool,
    max_queued: int,
) -> int:
    """Submit CSV or JSON Lines files as batches, rosters first, and wait until they are done.

    \b
    Columns (comma, semicolon or tab; UTF-8):
      students     sis_id, name, email
      courses      sis_id, title
      enrollments  student_id or student_sis_id, course_id or course_sis_id
    JSON Lines hold a whole request or record in each line.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    chosen = Kind(kind) if kind else None
    templates = dict(_template(text) for text in maps)
    # Every file's head is checked before the first message is published.
    sources = [files.open_source(path, chosen, templates) for path in paths]
    sources.sort(key=lambda source: source.kind is Kind.ENROLLMENTS)
    if batch_id is not None and len(sources) > 1:
        raise click.UsageError("--batch-id names one batch: give one file.")
    journal = Journal()
    refused = False
    for place, source in enumerate(sources, 1):
        last = place == len(sources)
        known_id = batch_id or (journal.find(source.path) if resume else None)
        new_id = known_id or uuid.uuid4().hex
        journal.begin(source.path, new_id)
        try:
            status = submit_source(
                session.client,
                source,
                session.err,
                batch_id=new_id,
                known=known_id is not None,
                wait=not (no_wait and last),
                max_queued=max_queued,
            )
        except KeyboardInterrupt:
            click.echo(
                f"Interrupted; what was queued of batch {new_id} goes on."
                " For the rest: the same command with --resume.",
                err=True,
            )
            return INTERRUPTED
        session.say(status, status.batch_id if status.state != "done" else display.batch(status))
        refused = refused or status.books.rejected > 0
    journal.finish(paths)
    return REFUSED if refused else 0


def _template(text: str) -> tuple[str, str]:
    column, equals, template = text.partition("=")
    if not equals or not template:
        raise click.UsageError(f"--map {text}: write it as COLUMN=TEMPLATE, as sis_id='{{id}}'.")
    return column.strip(), template


@enroll.command(epilog=IDS + EXIT_CODES)
@click.argument("student")
@click.argument("courses", metavar="COURSE...", nargs=-1, required=True)
@click.option("--request-id", help="Your own id; a repeat under it has no further effect.")
@click.option("--partial", is_flag=True, help="Keep the good courses when some are refused.")
@_with_session
def request(
    session: Session,
    student: str,
    courses: tuple[str, ...],
    request_id: str | None,
    partial: bool,
) -> int:
    """Enroll one student in courses; waits, and prints the outcome."""
    asked = {
        "student_id": _identifier(student),
        "course_ids": [_identifier(course) for course in courses],
        "request_id": request_id,
        "atomic": not partial,
    }
    result = session.client.enroll(asked)
    session.say(result, display.response(result))
    return REFUSED if result.errors else 0


@enroll.command(epilog=EXIT_CODES)
@click.argument("identity", metavar="ID")
@_with_session
def status(session: Session, identity: str) -> int:
    """Say where a request or a batch stands."""
    found: RequestStatus | BatchStatus = session.client.status(identity)
    if found.state == "unknown":
        batch = session.client.batch(identity)
        found = batch if batch.state != "unknown" else found
    if isinstance(found, BatchStatus):
        session.say(found, display.batch(found, timed=True))
        return REFUSED if found.books.rejected else 0
    session.say(found, display.request(found))
    refused = found.state == "unknown" or (found.result is not None and found.result.errors)
    return REFUSED if refused else 0


@enroll.command(epilog=EXIT_CODES)
@click.argument("batch_id", metavar="BATCH")
@click.option("--csv", "csv_file", type=click.File("w", encoding="utf-8"), help=_CSV_HELP)
@click.option("--jsonl", "jsonl_file", type=click.File("w", encoding="utf-8"), help=_JSONL_HELP)
@_with_session
def errors(
    session: Session, batch_id: str, csv_file: TextIO | None, jsonl_file: TextIO | None
) -> int:
    """Show the refusals of a batch by cause, or write every refused line to a file."""
    found = session.client.batch(batch_id)
    if found.state == "unknown":
        click.echo(f"Nobody submitted the batch {batch_id}.", err=True)
        return REFUSED
    if csv_file is not None:
        count = refusals.write_csv(csv_file, found.columns, session.client.refusals(batch_id))
        click.echo(f"{count:,} refused lines written to {csv_file.name}.", err=True)
    if jsonl_file is not None:
        count = refusals.write_json_lines(jsonl_file, session.client.refusals(batch_id))
        click.echo(f"{count:,} refused records written to {jsonl_file.name}.", err=True)
    if csv_file is None and jsonl_file is None:
        session.say(list(found.refusals), display.refusals(found.refusals))
    return REFUSED if found.refusals else 0


@enroll.command(epilog=IDS + EXIT_CODES)
@click.argument("student")
@_with_session
def student(session: Session, student: str) -> int:
    """Show a student with courses."""
    found = session.client.student(_identifier(student))
    if found is None:
        click.echo(f"No student has the id {student}.", err=True)
        return REFUSED
    session.say(found, display.student(found))
    return 0


@enroll.command(epilog=IDS + EXIT_CODES)
@click.argument("student")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="At most so many."
)
@_with_session
def results(session: Session, student: str, limit: int) -> int:
    """Show what became of a student's requests, newest first."""
    found = session.client.results(_identifier(student), limit=limit)
    session.say(found, display.results(found))
    return 0


# --- the embedded stack -----------------------------------------------------------------------


def _end_on_sigterm() -> None:
    """Let SIGTERM unwind like Ctrl-C does, so that whatever was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@enroll.command(epilog=EXIT_CODES)
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
        _fail(error)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)


@enroll.command(epilog=EXIT_CODES)
def demo() -> None:
    """Show it: start everything in a temporary folder, submit a sample, explain, stop."""
    _end_on_sigterm()
    console = _console()
    try:
        with tempfile.TemporaryDirectory(prefix="enroll-demo-") as folder:
            tour.run_demo(Path(folder), console)
    except EnrollmentError as error:
        _fail(error)
    except KeyboardInterrupt:
        click.echo("Interrupted; everything that was started has been stopped.", err=True)
        sys.exit(INTERRUPTED)


@enroll.command(epilog=EXIT_CODES)
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

        from producer.main import HttpSettings, is_loopback, make_app  # noqa: PLC0415
    except ImportError:
        click.echo("Error: this needs the extra: pip install 'enrollment-worker[http]'.", err=True)
        sys.exit(USAGE)
    if tokens is None and not is_loopback(host):
        raise click.UsageError(
            f"Without tokens only loopback is served, not {host}: give --tokens FILE,"
            " with a line NAME SCOPES SHA256 for each caller."
        )
    broker_url = broker or stack.find_broker_url()
    if broker_url is None:
        raise click.UsageError("Give --broker or ENROLL_BROKER_URL, or run `enroll up` here.")
    settings = HttpSettings(broker_url=SecretStr(broker_url), http_tokens=tokens)
    uvicorn.run(make_app(settings), host=host, port=port, access_log=False)


def main() -> None:
    """Run the command line."""
    # A file is millions of objects without a cycle; to look for one takes longer than to read.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    enroll(prog_name="enroll")
