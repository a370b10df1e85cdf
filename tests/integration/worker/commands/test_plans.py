"""`enroll approve` and `enroll discard`: the operator sees what a plan would do, and decides."""

from typing import Any

import pytest

from producer.contract.plans import PlanState
from support.chunks import pairs
from support.commands import USAGE
from support.databases import enrolled_pairs, store_roster
from support.operator import REMAINS, ask, run
from support.staging import advance, chunks_of, request, stage
from worker.database.engine import Database
from worker.plans.reports.lookups import plan_status

HELD = request(hold="always")


@pytest.fixture
def held(database: Database) -> Any:
    """A plan that waits for a decision."""
    store_roster(database, ["A", "B"], ["M1"])
    stage(database, chunks_of(HELD, [pairs("A", "M1"), pairs("B", "M1"), pairs("Z", "M1")])[0])
    return advance(database)


def test_a_plan_is_shown_and_approved_once(database: Database, held: Any) -> None:
    run(database, "approve", "b", expect=USAGE)  # There is no terminal to ask on.
    _, err = run(database, "approve", "b", expect=REMAINS, typed="n\n")
    for shown in ("file.csv from registrar", "enrolled 2, rejected 1", held.digest, "always"):
        assert shown in err
    assert plan_status(database, "b").state is PlanState.HELD
    _, err = run(database, "approve", "b", typed="y\n")
    assert "The plan b is approved" in err
    _, err = run(database, "approve", "b", "--yes", expect=REMAINS)
    assert "already approved" in err
    assert advance(database).state is PlanState.DONE
    assert enrolled_pairs(database) == {("A", "M1"), ("B", "M1")}
    for command in ("approve", "discard"):
        _, err = run(database, command, "b", expect=REMAINS)
        assert "already applied" in err


def test_a_plan_is_discarded_and_stays_so(database: Database, held: Any) -> None:
    (report,) = ask(database, "discard", "b", "--yes")
    assert (report["plan_id"], report["state"]) == ("b", "discarded")
    _, err = run(database, "approve", "b", expect=REMAINS)
    assert "is discarded" in err
    assert advance(database).state is PlanState.DISCARDED
    assert enrolled_pairs(database) == set()


def test_a_digest_that_is_not_that_of_the_report_decides_nothing(
    database: Database, held: Any
) -> None:
    for command in ("approve", "discard"):
        _, err = run(database, command, "b", "--digest", "0" * 64, "--yes", expect=REMAINS)
        assert "made again after the report was shown" in err
    assert plan_status(database, "b") == held
    run(database, "approve", "b", "--digest", held.digest, "--yes")


def test_an_unknown_plan_is_named(database: Database) -> None:
    for command in ("approve", "discard"):
        _, err = run(database, command, "nightly", expect=REMAINS)
        assert "There is no plan nightly" in err


def test_a_plan_that_waits_for_chunks_can_be_discarded(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    stage(database, chunks_of(HELD, [pairs("A", "M1")], [])[0])
    _, err = run(database, "approve", "b", "--yes", expect=REMAINS)
    assert "its report is not made yet" in err
    run(database, "discard", "b", "--yes")
    assert plan_status(database, "b").state is PlanState.DISCARDED


def test_batches_that_wait_come_first_and_are_unfinished(database: Database, held: Any) -> None:
    for options in ([], ["--unfinished"]):
        (row,) = ask(database, "batches", *options)
        assert (row["batch"], row["state"], row["rows"], row["of"]) == ("b", "held", 3, 1)
    run(database, "discard", "b", "--yes")
    assert ask(database, "batches", "--unfinished") == []
