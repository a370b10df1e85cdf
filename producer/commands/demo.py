"""Define `enroll demo`, a guided tour with a real broker, database and worker, and sample data."""

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from producer.client import EnrollmentClient
from producer.commands import display, history_display
from producer.commands.connection_options import key_prefix_option
from producer.commands.demo_snapshots import show_snapshots
from producer.commands.progress import submit_source
from producer.commands.session import end_on_signals, fail
from producer.commands.terminal import make_console, tell
from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.stack_folder import FOLDER
from producer.embedded import stack
from producer.embedded.sample import write_sample
from producer.errors import EnrollmentError
from producer.files.reader import open_source
from producer.schemas import Kind, StudentResponse

EXIT_CODES = exit_codes(unreachable="the broker, the database or the worker could not be started")
NEXT_STEPS = """\
What to type next:
  enroll up                                   run a broker, database and worker in this terminal
  enroll submit your-file.csv                 submit a file from a second terminal
  enroll request SIS_ID COURSE_SIS_ID         enroll one student
  enroll student SIS_ID                       show a student with their courses
  enroll history SIS_ID                       show what happened to a student
  enroll submit your-file.csv --dry-run       show what a file would change, and change nothing
  enroll --help                               list all commands
After `make`, the command is .venv/bin/enroll; type `. .venv/bin/activate` to call it enroll."""


def run_demo(folder: Path, console: Console, key_prefix: str = "") -> None:
    """Run the tour in a folder, and stop everything that was started. Raises EnrollmentError.

    The sample files are in the folder itself, and the stack's in `.enroll` below it, where
    `enroll up` finds them.
    """
    console.print("Starting Valkey, a SQLite database and a Celery worker ...")
    with (
        stack.running(folder / FOLDER, key_prefix) as running,
        EnrollmentClient(running.broker_url, key_prefix=key_prefix) as client,
    ):
        console.print(f"Running. The broker is {running.shown_url}, and the files are in {folder}.")
        paths = write_sample(folder)
        sources = [open_source(path, None, {}) for path in paths]
        sources.sort(key=lambda source: source.kind is Kind.ENROLLMENTS)
        for source in sources:
            console.print(Rule(f"enroll submit {source.path.name}", align="left"))
            console.print(display.batch(submit_source(client, source, console, wait=True)))
        sis_id = _interesting_student(client, paths[0])
        console.print(Rule(f"enroll student {sis_id}", align="left"))
        student = client.student(sis_id)
        console.print(display.student(student) if student else f"No student has the id {sis_id}.")
        console.print(Rule(f"enroll results {sis_id}", align="left"))
        console.print(display.results(client.results(sis_id)))
        _drop_a_course(client, student, console)
        show_snapshots(client, folder, running.folder, paths[0], console)
        console.print(Rule())
        console.print(Text(NEXT_STEPS))


def _drop_a_course(
    client: EnrollmentClient, student: StudentResponse | None, console: Console
) -> None:
    """Drop the first course of a student, and show the student's history."""
    if student is None or not student.courses:
        return
    sis_id, course = student.sis_id, student.courses[0].sis_id
    console.print(Rule(f"enroll request {sis_id} --drop {course}", align="left"))
    dropped = client.enroll({"student_id": sis_id, "drop_course_ids": [course]})
    console.print(display.response(dropped))
    console.print(Rule(f"enroll history {sis_id}", align="left"))
    console.print(history_display.history(client.history(sis_id)))


def _interesting_student(client: EnrollmentClient, enrollments: Path) -> str:
    """Return the first student of the file with both an enrollment and a refusal."""
    lines = enrollments.read_text(encoding="utf-8").splitlines()[1:]
    candidates = [line.split(",")[0] for line in lines if ",X" in line]
    for sis_id, results in zip(candidates, client.results_of(candidates), strict=True):
        if any(r.enrolled_courses for r in results) and any(r.errors for r in results):
            return sis_id
    return candidates[0]


def _new_folder(folder: Path) -> Path:
    """Make a folder; one that is there must be empty. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            return folder.resolve()
    except OSError as error:
        raise click.UsageError(
            f"--keep {folder}: the folder cannot be used: {error.strerror}; name another."
        ) from None
    raise click.UsageError(f"--keep {folder}: the folder is not empty; name a new one.")


DEMO_EXAMPLES = """
\b
Examples:
  enroll demo
  enroll demo --keep trial
"""


@click.command(epilog=EXIT_CODES + DEMO_EXAMPLES)
@click.option(
    "--keep",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder, in which the sample files and the data remain.",
)
@key_prefix_option
def demo(keep: Path | None, key_prefix: str) -> None:
    """Demonstrate the system with sample data, then stop.

    Everything runs in a temporary folder, or in the one that --keep names: then run `enroll up` in
    that folder to go on with the same data.
    """
    end_on_signals()
    console = make_console()
    try:
        if keep is None:
            with tempfile.TemporaryDirectory(prefix="enroll-demo-") as folder:
                run_demo(Path(folder), console, key_prefix)
            console.print("The broker and the worker have been stopped, and the folder removed.")
        else:
            run_demo(_new_folder(keep), console, key_prefix)
            console.print(
                "The broker and the worker have been stopped. The files are in"
                f" {keep}; to go on with the same data, run `enroll up` there."
            )
    except EnrollmentError as error:
        fail(error)
    except KeyboardInterrupt:
        tell("Interrupted. The broker and the worker have been stopped.")
        sys.exit(ExitCode.INTERRUPTED)
