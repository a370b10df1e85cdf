"""Define `enroll submit`, which submits files or standard input as batches."""

import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from producer.commands import display
from producer.commands.check import check_sources
from producer.commands.exit_codes import EXIT_CODES, INTERRUPTED, REFUSED
from producer.commands.progress import submit_source
from producer.commands.resume import ResumeJournal
from producer.commands.session import Session, with_session
from producer.commands.terminal import tell
from producer.contract.batches import BatchState
from producer.errors import UnreadableFile
from producer.files.reader import FileSource, StreamSource, is_pipe, open_path
from producer.publishing.batches import MAX_QUEUED
from producer.schemas import Kind

STANDARD_INPUT = "-"
EXAMPLES = """
\b
Examples:
  enroll submit students.csv courses.csv enrollments.csv
  enroll submit --check enrollments.csv
  enroll submit enrollments.csv --batch-id night-2026-09-01
  zcat enrollments.csv.gz | enroll submit - --no-wait
  enroll submit --map student_sis_id='{id}' --map course_sis_id='{module}-{term}' export.csv
"""


@click.command(epilog=EXIT_CODES + EXAMPLES)
@click.argument("names", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--kind",
    type=click.Choice([k.value for k in Kind]),
    help="The kind of the records; by default the header decides.",
)
@click.option(
    "--map",
    "maps",
    metavar="COLUMN=TEMPLATE",
    multiple=True,
    help="Make one of our columns from the file's own: --map course_sis_id='{module}-{term}'.",
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="How the file stores its text, for example cp1252; UTF-8 and UTF-16 are recognized. With"
    " auto, a file that is neither is read as cp1252.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Read the whole files and show which lines are invalid, but submit nothing; no broker is"
    " needed.",
)
@click.option(
    "--refused",
    "refused_file",
    metavar="NAME",
    type=click.File("wb"),
    help="With --check, write every line that would be refused to this file, with the reason.",
)
@click.option(
    "--no-wait", is_flag=True, help="Print the batch id and exit once the batch is queued."
)
@click.option(
    "--batch-id",
    metavar="ID",
    help="Your own id for the batch of a single file; a repeat publishes only missing chunks.",
)
@click.option(
    "--resume", is_flag=True, help="Continue an interrupted submit; publish only missing chunks."
)
@click.option(
    "--max-queued",
    envvar="ENROLL_MAX_QUEUED",
    show_envvar=True,
    default=MAX_QUEUED,
    show_default=True,
    type=click.IntRange(1),
    help="How many chunks may wait in the queue before publishing pauses.",
)
@with_session
def submit(
    session: Session,
    names: tuple[str, ...],
    kind: str | None,
    maps: Sequence[str],
    encoding: str | None,
    check: bool,
    refused_file: BinaryIO | None,
    no_wait: bool,
    batch_id: str | None,
    resume: bool,
    max_queued: int,
) -> int:
    """Submit CSV or JSON Lines files as batches.

    Rosters go first, and the command waits until the batches are done. Write - as FILE for standard
    input.

    \b
    Columns (between commas, semicolons, tabs or |):
      students     sis_id, name, email
      courses      sis_id, title
      enrollments  student_id and course_id, which hold SIS ids, even numeric ones;
                   or student_key and course_key, which hold our keys; optional: action
    In JSON Lines, each line is a whole request or record, and an integer is our key.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    _check_names(names, batch_id, resume=resume)
    if refused_file is not None and (not check or len(names) > 1):
        raise click.UsageError("--refused needs --check and a single file.")
    chosen = Kind(kind) if kind else None
    templates = dict(_template(text) for text in maps)
    # The first lines of every file are checked before the first message is published.
    sources = [_open(name, chosen, templates, encoding) for name in names]
    for source in sources:
        session.print_notices(source.notices)
    try:
        if check:
            return check_sources(session, sources, refused_file)
        sources.sort(key=lambda source: source.kind is Kind.ENROLLMENTS)
        return _submit_all(
            session, sources, batch_id, resume=resume, wait=not no_wait, max_queued=max_queued
        )
    finally:  # What was noticed before an error is printed before the error.
        for source in sources:
            session.print_notices(source.notices)


def _submit_all(
    session: Session,
    sources: Sequence[FileSource | StreamSource],
    batch_id: str | None,
    *,
    resume: bool,
    wait: bool,
    max_queued: int,
) -> int:
    """Submit one source after another and return the exit code.

    Without `wait`, the last batch is not waited for.
    """
    journal = ResumeJournal()
    refused = False
    for number, source in enumerate(sources, 1):
        path = source.path if isinstance(source, FileSource) else None
        earlier_id = batch_id or (journal.find(path) if resume and path else None)
        new_id = earlier_id or uuid.uuid4().hex
        if path:
            journal.begin(path, new_id)
        try:
            status = submit_source(
                session.client,
                source,
                session.err,
                batch_id=new_id,
                resume=earlier_id is not None,
                wait=wait or number < len(sources),
                max_queued=max_queued,
            )
        except KeyboardInterrupt:
            option = "--resume" if path else f"--batch-id {new_id}"
            tell(
                f"Interrupted. The queued part of batch {new_id} will still be processed."
                f" To submit the rest, run the same command with {option}."
            )
            return INTERRUPTED
        is_done = status.state is BatchState.DONE
        text = display.batch(status) if is_done else status.batch_id
        session.show_with_notices(status, text, source.notices)
        refused = refused or status.books.rejected > 0
    journal.finish(source.path for source in sources if isinstance(source, FileSource))
    return REFUSED if refused else 0


def _check_names(names: Sequence[str], batch_id: str | None, *, resume: bool) -> None:
    if batch_id is not None and len(names) > 1:
        raise click.UsageError("--batch-id is the id of one batch; give one file.")
    if names.count(STANDARD_INPUT) > 1:
        raise click.UsageError("Standard input can be read only once; give - only once.")
    if resume and batch_id is None and (streams := [name for name in names if _is_stream(name)]):
        raise click.UsageError(
            f"--resume finds a batch by its file, but {streams[0]} is not a regular file. Submit it"
            " alone, with --batch-id and the batch id that was printed."
        )


def _is_stream(name: str) -> bool:
    """Return whether an input can be read only once, like standard input or `<(zcat FILE)`."""
    return name == STANDARD_INPUT or is_pipe(Path(name))


def _template(text: str) -> tuple[str, str]:
    column, equals, template = text.partition("=")
    if not equals or not template:
        raise click.UsageError(
            f"--map {text}: write it as COLUMN=TEMPLATE, for example sis_id='{{id}}'."
        )
    return column.strip(), template


def _open(
    name: str, kind: Kind | None, templates: Mapping[str, str], encoding: str | None
) -> FileSource | StreamSource:
    if name != STANDARD_INPUT:
        return open_path(Path(name), kind, templates, encoding)
    if sys.stdin is None:
        raise UnreadableFile("Standard input is closed; pipe the records into the command.")
    return StreamSource("standard input", sys.stdin.buffer, kind, templates, encoding)
