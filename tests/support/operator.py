"""Run the commands of an operator on a database, and read what they did."""

import json
from typing import Any

from support.commands import GOOD, invoke_enroll, invoke_on_terminal
from support.databases import dead_letters, url_of
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.models import LetterForm, LetterReason

REMAINS = 1
"""The exit code of a command that could not do everything it was asked to do."""


def run(
    url: str | Database, *arguments: str, expect: int = GOOD, typed: str | None = None
) -> tuple[str, str]:
    """Return what a command writes to standard output and to standard error.

    `typed` is what the operator types on the terminal; without it, there is no terminal.
    """
    database_url = url if isinstance(url, str) else url_of(url)
    variables = {"ENROLL_DATABASE_URL": database_url}
    if typed is None:
        done = invoke_enroll(*arguments, **variables)
    else:
        done = invoke_on_terminal(*arguments, typed=typed, **variables)
    assert done.exit_code == expect, done.output + repr(done.exception)
    assert isinstance(done.exception, SystemExit | None)
    return done.stdout, done.stderr


def ask(database: Database, *arguments: str, expect: int = GOOD) -> list[Any]:
    out, _ = run(database, *arguments, "--json", expect=expect)
    return [json.loads(line) for line in out.splitlines()]


def keep_requests(database: Database, *request_ids: str, course: str = "C") -> list[int]:
    """Store dead letters of single requests, and return their ids."""
    for request_id in request_ids:
        record = {"student_id": "S", "course_ids": [course], "request_id": request_id}
        letter = dead_letter(
            LetterForm.RECORD,
            json.dumps(record).encode(),
            LetterReason.NOT_PROCESSED,
            "Traceback ...\nValueError: it failed",
            task="enrollment.enroll",
            request_id=request_id,
        )
        keep(database, letter)
    return [letter.id for letter in dead_letters(database) if letter.request_id in request_ids]
