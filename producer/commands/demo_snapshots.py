"""Show snapshots in the guided tour: one is applied, and one that lost most rows is held."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from producer.client import EnrollmentClient
from producer.commands import display, plan_display
from producer.contract.plans import Decision
from producer.contract.stack_folder import database_url
from producer.errors import EnrollmentError

DATA_SET: Final = "sis:demo"
ROWS: Final = 400
"""The rows of the first snapshot; the second one has lost two thirds of them."""


def show_snapshots(
    client: EnrollmentClient, folder: Path, stack_folder: Path, enrollments: Path, console: Console
) -> None:
    """Submit a snapshot of some enrollments, then one that lost most rows, and approve it.

    `enrollments` is a file that was submitted before. Raises EnrollmentError.
    """
    _rule(console, f"enroll data-sets create {DATA_SET}")
    console.print(Text(_create_data_set(stack_folder)))
    header, *rows = enrollments.read_text(encoding="utf-8").splitlines()
    clean = list(dict.fromkeys(row for row in rows if _is_clean(row)))[:ROWS]
    monday = _write(folder / "monday.csv", [header, *clean])
    _rule(console, f"enroll submit {monday.name} --snapshot {DATA_SET} --adopt")
    submitted = client.submit_file(monday, snapshot=DATA_SET, adopt=True)
    console.print(display.batch(client.wait(submitted, timeout=60)))
    tuesday = _write(folder / "tuesday.csv", [header, *clean[: ROWS // 3]])
    _rule(console, f"enroll submit {tuesday.name} --snapshot {DATA_SET}")
    submitted = client.submit_file(tuesday, snapshot=DATA_SET)
    plan_id = client.wait(submitted, timeout=60).batch_id
    held = client.plan(plan_id)
    console.print(plan_display.plan(held))
    _rule(console, f"enroll approve {plan_id}")
    client.decide(plan_id, Decision.APPROVE, held.digest or "")
    client.wait(submitted, timeout=60)
    console.print(plan_display.plan(client.plan(plan_id)))


def _rule(console: Console, command: str) -> None:
    console.print(Rule(command, align="left"))


def _create_data_set(stack_folder: Path) -> str:
    """Create the data set, as an operator does. Raises EnrollmentError."""
    command = [sys.executable, "-m", "producer", "data-sets", "create", DATA_SET]
    environment = os.environ | {"ENROLL_DATABASE_URL": database_url(stack_folder)}
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EnrollmentError(f"The data set could not be created: {done.stderr.strip()}")
    return (done.stdout + done.stderr).strip()


def _is_clean(row: str) -> bool:
    """Return whether a row of the sample names a student and a course that exist."""
    student, _, course = row.partition(",")
    return student.startswith("S1") and course.startswith("C")


def _write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
