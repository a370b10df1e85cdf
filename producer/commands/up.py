"""`enroll up`: keep the embedded stack running."""

import time
from pathlib import Path

import click

from producer.commands.exit_codes import EXIT_CODES
from producer.commands.session import end_on_sigterm, fail
from producer.embedded import stack
from producer.errors import EnrollmentError

UP_EXAMPLES = """
\b
Examples:
  enroll up
  enroll up --folder /tmp/enroll-trial
"""


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
    end_on_sigterm()
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
