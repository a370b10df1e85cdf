"""`enroll undo`: shown first, asked about, done, and continued. On both databases."""

import pytest

from support.commands import USAGE
from support.databases import store_roster
from support.operator import REMAINS, ask, run
from support.undoing import COURSES, STUDENTS, apply, by_hand, pairs, request
from worker.database.engine import Database


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    store_roster(database, STUDENTS, COURSES)


def test_a_batch_is_shown_and_then_undone(database: Database) -> None:
    apply(database, request("A", enroll=["M1", "M2"]))
    by_hand(database, "by hand", 5, "A", enroll=["M2"])
    before = pairs(database)
    out, err = run(database, "undo", "b", "--dry-run")
    assert "pairs, if undone" in out
    assert "to undo that" not in err.lower()
    for typed, code in ((None, USAGE), ("n\n", REMAINS)):
        out, err = run(database, "undo", "b", expect=code, typed=typed)
        assert out == ""
        assert ("This drops 1 pairs that the batch b enrolled" in err) is (typed is not None)
    assert pairs(database) == before
    out, err = run(database, "undo", "b", typed="y\n")
    assert pairs(database) == {("A", "M2")}
    assert "A        M2      enrolled or confirmed  2026-09-01 12:05:00 UTC  by hand" in out
    assert "The batch undo:b has undone b. To undo that: enroll undo undo:b" in err
    _, err = run(database, "undo", "b", "--yes", expect=REMAINS)
    assert "was undone already" in err
    (report,) = ask(database, "undo", "undo:b", "--yes")
    assert (report["undo_id"], report["counts"]["enrolled"]) == ("undo:undo:b", 1)
    assert pairs(database) == before


def test_an_unknown_batch_is_named_with_a_remedy(database: Database) -> None:
    for options in (["--dry-run"], ["--yes"]):
        _, err = run(database, "undo", "nightly", *options, expect=REMAINS)
        assert "The batch nightly is unknown" in err
        assert "`enroll batches` lists batches" in err
