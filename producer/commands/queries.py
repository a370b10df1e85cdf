"""Define the commands that look something up: `errors`, `student` and `results`."""

import click

from producer.commands import display
from producer.commands.output_files import Output, OutputFile
from producer.commands.session import IDS, Session, parse_identifier, with_session
from producer.commands.terminal import tell
from producer.contract.batches import BatchState, BatchStatus, RefusalGroup
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import shell_word
from producer.files import refused_lines

_CSV_HELP = (
    "Write every refused line to a file in the same form as yours, with the reason in front."
    " Correct it in a text editor or with a program, and submit it with the same options."
)
_SPREADSHEET_HELP = (
    "Write the same for Excel and other spreadsheets: an apostrophe stands before each cell that"
    " they would run as a formula. This file, too, can be corrected and submitted."
)
_DROPS = (
    "There are drops among them: submit the corrected file with the same options as before, such as"
    " --drop, or its students are enrolled."
)
_OF_DATA_SET = (
    "Submit the corrected lines with --data-set {name}. Otherwise they belong to no data set, and"
    " later snapshots do not drop them."
)
_JSONL_HELP = "Write the refused records to a file as JSON Lines, as they were submitted."
SHOWN_STUDENTS = 100
"""The most students of a search that are shown."""
UNREACHABLE = "the broker or a worker cannot be reached"
ERRORS_CODES = exit_codes(
    done="there are no refusals, or the files were written",
    refused="there are refusals, or the batch is unknown",
    usage="wrong usage, or a file cannot be written",
    unreachable=UNREACHABLE,
)
STUDENT_CODES = exit_codes(refused="the student is unknown", unreachable=UNREACHABLE)
ERRORS_EXAMPLES = """
\b
Examples:
  enroll errors night-2026-09-01
  enroll errors night-2026-09-01 --csv refused.csv
  enroll errors night-2026-09-01 --jsonl - | wc -l
"""
STUDENT_EXAMPLES = """
\b
Examples:
  enroll student S1
  enroll student key:4711 --json
  enroll student --find 'ada lovelace'
"""
RESULTS_EXAMPLES = """
\b
Examples:
  enroll results S1
  enroll results S1 --limit 1 --json
"""


@click.command(epilog=ERRORS_CODES + ERRORS_EXAMPLES)
@click.argument("batch_id", metavar="BATCH")
@click.option("--csv", "csv_file", type=OutputFile(), help=_CSV_HELP)
@click.option("--spreadsheet", "spreadsheet", type=OutputFile(), help=_SPREADSHEET_HELP)
@click.option("--jsonl", "jsonl_file", type=OutputFile(), help=_JSONL_HELP)
@with_session
def errors(
    session: Session,
    batch_id: str,
    csv_file: Output | None,
    spreadsheet: Output | None,
    jsonl_file: Output | None,
) -> int:
    """Show the refusals of a batch by cause, or write them to a file."""
    batch = session.client.batch(batch_id)
    if batch.state is BatchState.UNKNOWN:
        tell(f"No batch with the id {batch_id} is known. Check the id.")
        return ExitCode.REFUSED
    groups = _groups(session, batch)
    for output, guarded in ((csv_file, False), (spreadsheet, True)):
        if output is not None:
            with output.opened() as file:
                refusals = session.client.refusals(batch_id)
                lines = refused_lines.DropDetector(refusals, batch.columns, batch.form)
                count = refused_lines.write_csv(
                    file, batch.columns, batch.form, lines, guarded=guarded
                )
            tell(f"Refused lines written to {output.name}: {count:,}.")
            if lines.has_hidden_drops:
                tell(_DROPS)
    if jsonl_file is not None:
        with jsonl_file.opened() as file:
            refusals = session.client.refusals(batch_id)
            count, missing = refused_lines.write_json_lines(file, batch.columns, refusals)
        tell(f"Refused records written to {jsonl_file.name}: {count:,}.")
        if missing:
            tell(
                f"Refused lines that are not records, and so not in this file: {missing:,}. Write"
                " them to a file with --csv."
            )
    is_written = bool(csv_file or spreadsheet or jsonl_file)
    if not is_written:
        session.show(list(groups), display.refusals(groups))
    if groups and batch.chunks_applied and batch.data_set is not None:
        tell(_OF_DATA_SET.format(name=shell_word(batch.data_set)))
    if is_written:
        return ExitCode.DONE
    return ExitCode.REFUSED if groups else ExitCode.DONE


def _groups(session: Session, batch: BatchStatus) -> tuple[RefusalGroup, ...]:
    """Return the refusals of a batch by cause; those of its plan as long as nothing is applied."""
    if batch.plan_id is None or batch.chunks_applied:
        return batch.refusals
    plan = session.client.plan(batch.plan_id)
    if plan.planned_at is None:
        tell(f"The plan {plan.plan_id} is not made yet, so nothing is refused so far.")
        return ()
    own = (member for member in plan.batches if member.batch_id == batch.batch_id)
    groups = next((member.refusals for member in own), ())
    if not groups:
        tell(
            f"No part of the batch {batch.batch_id} is applied, and its plan would refuse no line."
        )
    else:
        tell(
            f"No part of the batch {batch.batch_id} is applied: these lines would be refused."
            " Correct them in the file itself, and submit the whole file under another batch id."
        )
    return groups


@click.command(epilog=IDS + STUDENT_CODES + STUDENT_EXAMPLES)
@click.argument("student", required=False)
@click.option(
    "--find",
    metavar="TEXT",
    help="Search for students by SIS id, e-mail address or the words of a name, in any case.",
)
@with_session
def student(session: Session, student: str | None, find: str | None) -> int:
    """Show a student with their courses, or search for students."""
    if (student is None) == (find is None):
        raise click.UsageError("Write either the id of a student or --find TEXT.")
    if student is None:
        return _find(session, str(find))
    response = session.client.student(parse_identifier(student))
    if response is None:
        return unknown_student(student)
    session.show(response, display.student(response))
    return ExitCode.DONE


def _find(session: Session, text: str) -> int:
    found = session.client.find_students(text, limit=SHOWN_STUDENTS)
    if not found.students:
        tell(f"No student has the SIS id or e-mail address {text}, or these words in the name.")
        return ExitCode.REFUSED
    session.show(found.students, display.found_students(found))
    if found.more:
        tell(f"There are more than {SHOWN_STUDENTS} students: add another word.")
    return ExitCode.DONE


@click.command(epilog=IDS + STUDENT_CODES + RESULTS_EXAMPLES)
@click.argument("student")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="The largest number of results to show.",
)
@with_session
def results(session: Session, student: str, limit: int) -> int:
    """Show the results of a student's requests, newest first."""
    identifier = parse_identifier(student)
    newest = session.client.results(identifier, limit=limit)
    # Results are also stored for students that the roster does not have.
    if not newest and session.client.student(identifier) is None:
        return unknown_student(student)
    session.show(newest, display.results(newest))
    return ExitCode.DONE


def unknown_student(student: str) -> ExitCode:
    """Print that a student is unknown, and return the exit code."""
    tell(f"No student has the id {student}. Check the id, or submit the student.")
    return ExitCode.REFUSED
