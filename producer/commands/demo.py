"""`enroll demo`, the guided tour: a real broker, database and worker, and a sample."""

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.rule import Rule

from producer.client import EnrollmentClient
from producer.commands import display
from producer.commands.exit_codes import EXIT_CODES, INTERRUPTED
from producer.commands.progress import submit_source
from producer.commands.session import end_on_sigterm, fail, make_console
from producer.embedded import stack
from producer.embedded.sample import write_sample
from producer.errors import EnrollmentError
from producer.files.reader import open_source
from producer.schemas import Kind

NEXT_STEPS = """\
What to type next:
  enroll up                                   keep such a stack running, in this terminal
  enroll submit your-file.csv                 submit a file, in a second terminal
  enroll request SIS_ID COURSE_SIS_ID         enroll one student
  enroll student SIS_ID                       see a student with courses
  enroll --help                               all commands
With `make` the command is .venv/bin/enroll, or: . .venv/bin/activate"""


def run_demo(folder: Path, console: Console) -> None:
    """Run the tour in a folder and stop everything that it started. Raises EnrollmentError."""
    console.print("Starting Valkey, SQLite with its migrations, and a Celery worker ...")
    with stack.running(folder) as broker_url, EnrollmentClient(broker_url) as client:
        console.print(f"Running: the broker is {broker_url}, the files are in {folder}")
        paths = write_sample(folder)
        sources = [open_source(path, None, {}) for path in paths]
        sources.sort(key=lambda source: source.kind is Kind.ENROLLMENTS)
        for source in sources:
            console.print(Rule(f"enroll submit {source.path.name}", align="left"))
            console.print(display.batch(submit_source(client, source, console, wait=True)))
        sis_id = _interesting_student(client, paths[0])
        console.print(Rule(f"enroll student {sis_id}", align="left"))
        found = client.student(sis_id)
        console.print(display.student(found) if found else f"No student {sis_id}.")
        console.print(Rule(f"enroll results {sis_id}", align="left"))
        console.print(display.results(client.results(sis_id)))
        console.print(Rule())
        console.print(NEXT_STEPS, highlight=False)
    console.print("Everything that was started has been stopped, and its folder removed.")


def _interesting_student(client: EnrollmentClient, enrollments: Path) -> str:
    """The first student of the file that was enrolled in something and refused something."""
    lines = enrollments.read_text(encoding="utf-8").splitlines()[1:]
    asked = [line.split(",")[0] for line in lines if ",X" in line]
    for sis_id, results in zip(asked, client.results_of(asked), strict=True):
        if any(r.enrolled_courses for r in results) and any(r.errors for r in results):
            return sis_id
    return asked[0]


DEMO_EXAMPLES = """
\b
Examples:
  enroll demo
"""


@click.command(epilog=EXIT_CODES + DEMO_EXAMPLES)
def demo() -> None:
    """Show it: start everything in a temporary folder, submit a sample, explain, stop."""
    end_on_sigterm()
    try:
        with tempfile.TemporaryDirectory(prefix="enroll-demo-") as folder:
            run_demo(Path(folder), make_console())
    except EnrollmentError as error:
        fail(error)
    except KeyboardInterrupt:
        click.echo("Interrupted; everything that was started has been stopped.", err=True)
        sys.exit(INTERRUPTED)
