"""`enroll data-sets`: what the operator creates, and when snapshots are held."""

from support.commands import USAGE
from support.operator import REMAINS, ask, run
from support.snapshots import NOON
from worker.data_sets.repository import data_set_key
from worker.database.engine import Database
from worker.plans.snapshot_rules import problem_of_data_set


def test_a_data_set_is_created_once(database: Database) -> None:
    _, err = run(database, "data-sets", "list")
    assert "There are no data sets." in err
    _, err = run(database, "data-sets", "create", "sis:2026-fall")
    assert "was created" in err
    _, err = run(database, "data-sets", "create", "sis:2026-fall")
    assert "exists already" in err
    (row,) = ask(database, "data-sets", "list")
    assert (row["data_set"], row["snapshots"], row["last_snapshot"]) == (
        "sis:2026-fall",
        True,
        None,
    )


def test_a_name_with_spaces_is_quoted_in_the_command_that_is_advised(database: Database) -> None:
    _, err = run(database, "data-sets", "create", "SIS 2026 fall")
    assert "`enroll submit --snapshot 'SIS 2026 fall' FILE`" in err
    problem = str(problem_of_data_set("SIS 2026 fall", None))
    assert "`enroll data-sets create 'SIS 2026 fall'`" in problem
    assert "under another batch id" in problem  # Under the same one, the plan stays discarded.


def test_snapshots_are_allowed_of_a_data_set_that_only_batches_have_named(
    database: Database,
) -> None:
    with database.writing() as connection:
        data_set_key(connection, "lms", NOON)
    (row,) = ask(database, "data-sets", "list")
    assert row["snapshots"] is False
    out, _ = run(database, "data-sets", "list")
    assert out.splitlines()[1].split()[:3] == ["lms", "no", "default"]
    (row,) = ask(database, "data-sets", "create", "lms")
    assert row["snapshots"] is True


def test_rules_are_changed_one_by_one_and_reset(database: Database) -> None:
    run(database, "data-sets", "create", "sis")
    (row,) = ask(database, "data-sets", "rules", "sis", "--drops", "20.5", "--no-empty")
    assert (row["rules"]["drops_percent"], row["rules"]["no_enrollments"]) == (20.5, False)
    (row,) = ask(database, "data-sets", "rules", "sis", "--always")
    assert (row["rules"]["drops_percent"], row["rules"]["always"]) == (20.5, True)
    out, _ = run(database, "data-sets", "rules", "sis")
    assert ["always", "yes"] in [line.split() for line in out.splitlines()]
    out, _ = run(database, "data-sets", "list")
    assert "drops percent: 20.5" in out
    (row,) = ask(database, "data-sets", "rules", "sis", "--default", "--rows", "3")
    assert (row["rules"]["drops_percent"], row["rules"]["drops_rows"]) == (5.0, 3)
    assert row["rules"]["always"] is False


def test_what_is_wrong_is_named_and_nothing_is_stored(database: Database) -> None:
    _, err = run(database, "data-sets", "rules", "sis", "--always", expect=REMAINS)
    assert "there is no data set sis" in err
    for name in ("", "x" * 129, "a\nb"):
        _, err = run(database, "data-sets", "create", name, expect=USAGE)
        assert "1 to 128 characters" in err
    run(database, "data-sets", "create", "sis")
    _, err = run(database, "data-sets", "rules", "sis", "--drops", "101", expect=USAGE)
    assert "101" in err
    (row,) = ask(database, "data-sets", "list")
    assert row["data_set"] == "sis"
