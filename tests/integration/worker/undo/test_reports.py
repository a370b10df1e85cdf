"""What the client of an undo is shown: what would change, by course and with names."""

import pytest

from producer.contract.undos import UndoState
from producer.schemas import Action
from support.databases import store_roster
from support.undoing import COURSES, STUDENTS, apply, at, by_hand, clock, columns, pairs, request
from worker.database.engine import Database
from worker.undo.reports import preview, running
from worker.undo.run import undo
from worker.undo.values import UndoneElsewhere


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)


def apply_two_chunks(database: Database) -> None:
    """Apply a batch whose requests are decided as columns, and so have derived results."""
    for number, student in enumerate(STUDENTS):
        requests = columns([request(student, enroll=["M1", "M2"])], Action.ENROLL)
        before = {"requests": number, "rows": 2 * number}
        apply(database, requests=requests, number=number, last=number == 1, before=before)


def test_a_dry_run_counts_what_changes_by_course_and_names_the_first_pairs(
    database: Database,
) -> None:
    by_hand(database, "first", -1, "A", enroll=["M3"])
    apply(
        database,
        request("A", drop=["M3"], enroll=["M1"]),
        request("B", enroll=["M1"], drop=["M2"]),
    )
    by_hand(database, "later", 1, "B", enroll=["M1"])
    before = pairs(database)
    shown = preview(database, "b", clock=clock)
    assert (shown.state, shown.undo_id, shown.is_complete) == (UndoState.PLANNED, "undo:b", True)
    counts = {course.sis_id: (course.dropped, course.enrolled) for course in shown.courses}
    assert counts == {"M1": (1, 0), "M3": (0, 1)}
    changes = [(c.action, c.student_sis_id, c.course_sis_id) for c in shown.changes]
    assert sorted(changes) == [("drop", "A", "M1"), ("enroll", "A", "M3")]
    (left,) = shown.left
    assert (left.student_sis_id, left.course_sis_id, left.request_id) == ("B", "M1", "later")
    assert left.moment == at(1)
    assert pairs(database) == before


def test_a_dry_run_shows_what_an_undo_of_a_drop_enrolls_again(database: Database) -> None:
    apply(database, requests=columns([request("A", enroll=["M1"])], Action.ENROLL), batch_id="a")
    drops = columns([request("A", drop=["M1"])], Action.DROP)
    apply(database, requests=drops, moment=at(5))
    (course,) = preview(database, "b", clock=clock).courses
    assert (course.sis_id, course.dropped, course.enrolled) == ("M1", 0, 1)


def test_a_dry_run_of_a_large_batch_ends_in_time_and_says_so(database: Database) -> None:
    apply_two_chunks(database)
    whole = preview(database, "b", clock=clock)
    assert (whole.books.dropped, len(whole.changes), whole.is_complete) == (4, 4, True)
    part = preview(database, "b", seconds=0, clock=clock)
    assert (part.books.dropped, len(part.changes), part.is_complete) == (2, 2, False)


def test_the_state_of_an_undo_that_has_begun_is_shown_instead_of_a_dry_run(
    database: Database,
) -> None:
    apply_two_chunks(database)

    def interrupt() -> None:
        raise UndoneElsewhere

    with pytest.raises(UndoneElsewhere):
        undo(database, "b", on_applied=interrupt, clock=clock)
    begun = preview(database, "b", clock=clock)
    assert begun == running(database, "b")
    assert (begun.state, begun.books.dropped) == (UndoState.RUNNING, 2)
