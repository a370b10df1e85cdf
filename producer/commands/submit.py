"""Define `enroll submit`, which submits files or standard input as batches."""

import contextlib
import getpass
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from producer.commands import display
from producer.commands.check import check_sources
from producer.commands.comparing import compare_input
from producer.commands.file_options import file_options, with_choices
from producer.commands.inputs import STANDARD_INPUT, Input, opened_inputs
from producer.commands.output_files import Output, OutputFile
from producer.commands.plan_options import check_together, plan_options
from producer.commands.planned_submit import PlannedOptions, begun_plan, submit_planned
from producer.commands.progress import submit_source
from producer.commands.resume import ResumeJournal
from producer.commands.session import Session, with_session
from producer.commands.terminal import tell
from producer.contract.batches import BatchState
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import shell_word
from producer.errors import InvalidRequest
from producer.files.describing import Choices
from producer.files.formats.packages import AnySource
from producer.files.reader import is_pipe
from producer.files.submitted import check_planned
from producer.publishing.arguments import check_batch
from producer.publishing.batches import MAX_QUEUED
from producer.publishing.chunking import Membership
from producer.publishing.planning import PlanOptions
from producer.schemas import Kind

EXIT_CODES = exit_codes(
    refused="lines were refused",
    usage="wrong usage, an unreadable file, or a batch id used for different records",
    unreachable="the broker or a worker cannot be reached",
    cannot_finish="a batch cannot finish unless somebody acts",
    held="the submission waits for a decision, and nothing is applied yet",
)
EXAMPLES = """
\b
Examples:
  enroll submit students.csv courses.csv enrollments.csv
  enroll submit export.zip
  enroll submit --check enrollments.csv
  enroll submit --drop withdrawals.csv
  enroll submit enrollments.csv --batch-id night-2026-09-01
  enroll submit --dry-run enrollments.csv
  enroll submit --snapshot sis:2026-fall export.zip
  zcat enrollments.csv.gz | enroll submit - --no-wait
  enroll submit --map student_sis_id='{id}' --map course_sis_id='{module}-{term}' export.csv
"""


@click.command(epilog=EXIT_CODES + EXAMPLES)
@click.argument("names", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@file_options
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
    type=OutputFile(),
    help="With --check, write every line that would be refused to this file, with the reason.",
)
@click.option(
    "--spreadsheet",
    metavar="NAME",
    type=OutputFile(),
    help="With --check, write the same for Excel and other spreadsheets, so that no cell runs as a"
    " formula.",
)
@click.option(
    "--no-wait", is_flag=True, help="Print the batch id and exit once the batch is queued."
)
@click.option(
    "--wait-timeout",
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="The longest wait for a plan; by default there is no limit. The submission goes on.",
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
@click.option(
    "--submitter",
    envvar="ENROLL_SUBMITTER",
    show_envvar=True,
    metavar="NAME",
    help="Who submits, for the operator to see; by default the name of the user.",
)
@with_session
@plan_options
@with_choices
def submit(
    session: Session,
    names: tuple[str, ...],
    choices: Choices,
    plan: PlanOptions,
    check: bool,
    refused_file: Output | None,
    spreadsheet: Output | None,
    no_wait: bool,
    wait_timeout: float | None,
    batch_id: str | None,
    resume: bool,
    max_queued: int,
    submitter: str | None,
) -> int:
    """Submit files or exports as batches: CSV, JSON Lines, Excel.

    Rosters go first, and the command waits until the batches are done. Write - as FILE for standard
    input. A file of another system is recognized by its header; a zip archive or a folder with its
    files is submitted as several batches, whose ids begin with the same id.

    \b
    Columns (between commas, semicolons, tabs or |):
      students     sis_id, name, email, as_of
      courses      sis_id, title, as_of
      enrollments  student_id and course_id, which hold SIS ids, even numeric ones;
                   or student_key and course_key, which hold our keys;
                   optional: action (enroll or drop; the later line wins), reason, as_of
    In JSON Lines, each line is a whole request or record, and an integer is our key.
    """  # noqa: D301 - click's mark for a paragraph that is not folded
    _check_names(names, batch_id, resume=resume)
    _check_refused_files(names, refused_file, spreadsheet, check=check)
    check_together(plan, wait_timeout, check=check)
    # The first lines of every file are checked before the first message is published.
    with opened_inputs(session, names, choices) as inputs:
        if check:
            sources = [entry.source for entry in inputs]
            _check_sources(refused_file or spreadsheet, sources)
            return check_sources(session, sources, refused_file, spreadsheet)
        if batch_id is not None and len({entry.name for entry in inputs}) > 1:
            raise _several_for_one_id()
        own_name = submitter or _user_name()
        options = _Options(batch_id, resume, not no_wait, max_queued, own_name, wait_timeout)
        submit_all = _submit_planned if plan.is_planned else _submit_all
        return submit_all(session, inputs, choices, plan, options)


def _check_sources(refused_file: Output | None, sources: Sequence[AnySource]) -> None:
    if refused_file is not None and len(sources) > 1:
        raise click.UsageError(
            "--refused and --spreadsheet write the lines of one file, but the package has"
            f" {len(sources)}; unpack it, and check the file that you mean."
        )


class _Options(NamedTuple):
    """How sources are submitted."""

    batch_id: str | None
    resume: bool
    wait: bool
    """Whether to wait for the last batch; the command always waits for the earlier ones."""
    max_queued: int
    submitter: str | None
    wait_timeout: float | None
    """The longest wait for a plan, in seconds; None if there is no limit."""


def _submit_planned(
    session: Session,
    inputs: Sequence[Input],
    choices: Choices,
    plan: PlanOptions,
    options: _Options,
) -> int:
    """Submit all inputs as one plan, and return the exit code."""
    journal = ResumeJournal()
    known: dict[str, str] = {}
    if options.batch_id is not None:
        known = {entry.name: options.batch_id for entry in inputs}
    elif options.resume:
        known = begun_plan(journal, inputs, plan)
        inputs = sorted(inputs, key=lambda entry: list(known).index(entry.name) if known else 0)
    ids = {e.name: (known.get(e.name) or uuid.uuid4().hex, e.name in known) for e in inputs}
    for entry in inputs:
        if entry.package is not None:
            entry.package.batch_ids(ids[entry.name][0])
    seconds = math.inf if options.wait_timeout is None else options.wait_timeout
    how = (options.wait, options.max_queued, options.submitter, seconds)
    own = PlannedOptions(choices, plan, ids, *how)
    return submit_planned(session, inputs, journal, own)


def _submit_all(
    session: Session,
    inputs: Sequence[Input],
    choices: Choices,
    plan: PlanOptions,
    options: _Options,
) -> int:
    """Submit one input after another, rosters first, and return the exit code."""
    check_planned([entry.source for entry in inputs], choices, plan)
    journal = ResumeJournal()
    refused = False
    ids = {entry.name: _id_of(entry, journal, options) for entry in inputs}
    for entry in inputs:  # An id that is too long is refused before anything is published.
        if entry.package is not None:
            entry.package.batch_ids(ids[entry.name][0])
    rosters_first = sorted(inputs, key=lambda entry: entry.source.kind is Kind.ENROLLMENTS)
    for number, entry in enumerate(rosters_first, 1):
        source = entry.source
        is_enrollments = source.kind is Kind.ENROLLMENTS
        own_id, is_known = ids[entry.name]
        if entry.files:
            journal.begin(entry.files, own_id)
        try:
            status = submit_source(
                session.client,
                source,
                session.err,
                batch_id=entry.batch_id(own_id),
                resume=is_known,
                wait=options.wait or number < len(inputs),
                max_queued=options.max_queued,
                submitter=options.submitter,
                membership=Membership(plan.data_set if is_enrollments else None),
            )
        except KeyboardInterrupt:
            return _interrupted(entry, own_id)
        is_done = status.state is BatchState.DONE
        text = display.batch(status) if is_done else status.batch_id
        more = _compared(session, entry) if is_done else {}
        session.show_with_notices(status, text, source.notices, more)
        refused = refused or status.books.rejected > 0
    journal.finish(entry.files for entry in inputs if entry.files)
    return ExitCode.REFUSED if refused else ExitCode.DONE


def _interrupted(entry: Input, own_id: str) -> int:
    option = "--resume" if entry.files else f"--batch-id {shell_word(own_id)}"
    tell(
        f"Interrupted. The queued part of batch {entry.batch_id(own_id)} will still be"
        f" processed. To submit the rest, run the same command with {option}."
    )
    return ExitCode.INTERRUPTED


def _compared(session: Session, entry: Input) -> dict[str, int | None]:
    """Compare a complete export with the current enrollments; return what JSON has of it."""
    comparison = compare_input(session.client, entry)
    if comparison is None:
        return {}
    if comparison.notice is not None:
        entry.source.notices.add(comparison.notice)
    return {"not_in_file": comparison.not_in_file}


def _id_of(entry: Input, journal: ResumeJournal, options: _Options) -> tuple[str, bool]:
    """Return the id under which an input is submitted, and whether it may have been before."""
    earlier_id = options.batch_id
    if earlier_id is None and options.resume and entry.files:
        earlier_id = journal.find(entry.files)
    return earlier_id or uuid.uuid4().hex, earlier_id is not None


def _user_name() -> str | None:
    """Return the name of the user; None if the user has none, as in some containers."""
    with contextlib.suppress(OSError, KeyError):
        return getpass.getuser()
    return None


def _check_names(names: Sequence[str], batch_id: str | None, *, resume: bool) -> None:
    if batch_id is not None:
        _check_batch_id(batch_id)
    if batch_id is not None and not all(Path(name).is_file() for name in names[1:]):
        raise _several_for_one_id()
    if names.count(STANDARD_INPUT) > 1:
        raise click.UsageError("Standard input can be read only once; give - only once.")
    if resume and batch_id is None and (streams := [name for name in names if _is_stream(name)]):
        raise click.UsageError(
            f"--resume finds a batch by its file, but {streams[0]} is not a regular file. Submit it"
            " alone, with --batch-id and the batch id that was printed."
        )


def _several_for_one_id() -> click.UsageError:
    return click.UsageError("--batch-id is the id of one batch or package; give one file.")


def _check_refused_files(
    names: Sequence[str],
    refused_file: Output | None,
    spreadsheet: Output | None,
    *,
    check: bool,
) -> None:
    if refused_file is not None and spreadsheet is not None:
        raise click.UsageError("--refused and --spreadsheet write the same lines; choose one.")
    for option, file in (("--refused", refused_file), ("--spreadsheet", spreadsheet)):
        if file is not None:
            _check_refused_file(option, names, file.name, check=check)


def _check_refused_file(
    option: str, names: Sequence[str], refused_name: str, *, check: bool
) -> None:
    if not check or len(names) > 1:
        raise click.UsageError(f"{option} needs --check and a single file.")
    paths = [Path(refused_name), Path(names[0])]
    if all(path.exists() for path in paths) and paths[0].samefile(paths[1]):
        raise click.UsageError(f"{option} would overwrite the file that is checked; name another.")


def _check_batch_id(batch_id: str) -> None:
    """Raise UsageError for an id that no batch can have, for example an empty one."""
    try:
        check_batch(batch_id)
    except InvalidRequest as error:
        message = error.problems[0].message.removeprefix("batch_id: ")
        raise click.UsageError(f"--batch-id: {message}.") from None


def _is_stream(name: str) -> bool:
    """Return whether an input can be read only once, like standard input or `<(zcat FILE)`."""
    return name == STANDARD_INPUT or is_pipe(Path(name))
