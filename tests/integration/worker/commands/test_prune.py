"""`enroll prune`: what is old is counted, and then removed."""

from datetime import UTC, datetime

from sqlalchemy import update

from support.commands import INTERRUPTED, USAGE
from support.databases import count_rows
from support.operator import REMAINS, ask, keep_requests, run
from worker.database.engine import Database
from worker.models import EnrollmentResult, StudentCourse


def test_old_rows_are_counted_and_then_removed(database: Database, roster: None) -> None:
    keep_requests(database, "r1", "r2")
    run(database, "dead-letters", "retry", "--all")
    with database.writing() as connection:
        aged = update(EnrollmentResult).where(EnrollmentResult.request_id == "r1")
        long_ago = datetime(2020, 2, 2, tzinfo=UTC)
        connection.execute(aged.values(completed_at=long_ago, moment=long_ago))
    out, err = run(database, "prune", "--older-than", "400d", "--dry-run")
    assert err.startswith("Counting what is older than 20")
    assert "would be removed" in out
    for _ in range(2):
        (report,) = ask(database, "prune", "--older-than", "400d", "--dry-run")
        assert (report["dry_run"], report["removed"]["results"]) == (True, 1)
    for typed, code in ((None, USAGE), ("n\n", REMAINS), ("\n", REMAINS), ("", INTERRUPTED)):
        out, err = run(database, "prune", "--older-than", "57w", expect=code, typed=typed)
        assert out == ""
        assert count_rows(database, EnrollmentResult) == 2
        counts = (
            "results 1, past enrollments 0, batches 0, batch chunks 0, batch refusals 0,"
            " dead letters 0, plans 0"
        )
        assert (counts in err) is (typed is not None)
    out, err = run(database, "prune", "--older-than", "57w", typed="y\n")
    assert "Removing" in err
    assert ["results", "1"] in [line.split() for line in out.splitlines()]
    assert count_rows(database, EnrollmentResult) == 1
    assert count_rows(database, StudentCourse) == 1
    (report,) = ask(database, "prune", "--older-than", "57w", "--yes")
    assert report["removed"]["results"] == 0
