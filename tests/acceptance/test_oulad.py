"""Real registrations of a real university, through the queue into both databases."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import ROOT, Deployment
from sqlalchemy import text

from worker.database.engine import Database

OULAD = ROOT.parent / "shared" / "data" / "oulad"
PAIRS = 32_593
COURSE = "{code_module}-{code_presentation}"
FILES = [
    ("courses.csv", ["--kind", "courses", "--map", f"sis_id={COURSE}"]),
    ("studentInfo.csv", ["--kind", "students", "--map", "sis_id={id_student}"]),
    (
        "studentRegistration.csv",
        ["--map", "student_sis_id={id_student}", "--map", f"course_sis_id={COURSE}"],
    ),
]

pytestmark = [
    pytest.mark.skipif(not OULAD.is_dir(), reason="the data set is not here"),
    pytest.mark.timeout(300),
]


def submit(deployment: Deployment, path: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "producer", "submit", str(path), *options, "--json"],
        env=deployment.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout)
    assert status["state"] == "done"
    assert status["refusals"] == []
    return status


def counts(deployment: Deployment) -> tuple[int, ...]:
    database = Database(deployment.database_url)
    with database.reading() as connection:
        tables = ("students", "courses", "student_courses")
        found = tuple(
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
            for table in tables
        )
    database.close()
    return found


def test_every_registration_is_enrolled_once(fresh_deployment: Deployment) -> None:
    first, second = (
        [submit(fresh_deployment, OULAD / name, *options) for name, options in FILES]
        for _ in range(2)
    )
    books = [status["books"] for status in first]
    assert [b["upserted"] for b in books] == [22, 28_785, 0]
    assert books[2]["enrolled"] == books[2]["received"] == PAIRS
    books = [status["books"] for status in second]
    assert [b["upserted"] for b in books] == [0, 0, 0]
    assert books[2]["already_enrolled"] == books[2]["received"] == PAIRS
    assert counts(fresh_deployment) == (28_785, 22, PAIRS)
