"""Migrate the database for `enroll up`, and print what is in it: `python -m worker.prepare`."""

import contextlib
import json

from worker.database.engine import Database
from worker.migrate import change_or_exit
from worker.models import Batch, Course, Student, StudentCourse
from worker.repository import count_rows
from worker.settings import load_database_url


def main() -> None:
    """Print one line of JSON; if the database cannot be migrated, exit with 1 and a message."""
    had, _ = change_or_exit()
    with contextlib.closing(Database(load_database_url())) as database, database.reading() as read:
        students, courses, enrollments, batches = count_rows(
            read, Student, Course, StudentCourse, Batch
        )
    contents = {
        "is_new": had == "none",
        "students": students,
        "courses": courses,
        "enrollments": enrollments,
        "batches": batches,
    }
    print(json.dumps(contents))  # noqa: T201 - `enroll up` reads it


if __name__ == "__main__":
    main()
