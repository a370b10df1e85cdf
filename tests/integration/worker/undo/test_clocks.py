"""The clock of Redis may be set back after a batch, for example by a failover. Both databases."""

from datetime import datetime, timedelta

from support.databases import store_roster
from support.undoing import (
    COURSES,
    STUDENTS,
    apply,
    at,
    by_hand,
    pairs,
    request,
)
from worker.database.engine import Database
from worker.undo.run import rehearse, undo


def test_a_batch_that_lies_ahead_of_the_clock_is_undone(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)
    by_hand(database, "r", -1, "A", enroll=["M1"])
    # An undo of both drops and enrollments names the moment of each request.
    apply(database, request("A", drop=["M1"]), request("B", enroll=["M1"]))

    def set_back() -> datetime:
        return at(0) - timedelta(hours=1)

    shown = rehearse(database, "b", clock=set_back)
    report = undo(database, "b", clock=set_back)
    assert report == shown
    assert (report.counts["rejected"], pairs(database)) == (0, {("A", "M1")})
