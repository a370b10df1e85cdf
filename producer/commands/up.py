"""Define `enroll up`, which runs the embedded stack until Ctrl-C."""

import time
from pathlib import Path

import click

from producer.commands.exit_codes import EXIT_CODES
from producer.commands.session import end_on_sigterm, fail, key_prefix_option
from producer.commands.terminal import tell
from producer.contract.stack_folder import FOLDER
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
    default=FOLDER,
    show_default=True,
    help="The folder for the files of the broker and the database.",
)
@key_prefix_option
def up(folder: Path, key_prefix: str) -> None:
    """Run an embedded broker, database and worker until Ctrl-C.

    Other commands find the broker without --broker if they are started in the same folder or in
    one below it. If you give --folder, pass the printed URL to them with --broker.
    """
    end_on_sigterm()
    try:
        with stack.running(folder, key_prefix) as broker_url:
            tell(f"Running at {broker_url}; files and logs are in {folder}/.")
            tell("Try `enroll submit FILE` in a second terminal. Press Ctrl-C to stop.")
            while True:
                time.sleep(3600)
    except EnrollmentError as error:
        fail(error)
    except KeyboardInterrupt:
        tell("Stopped.")
