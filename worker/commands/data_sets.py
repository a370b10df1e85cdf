"""Implement `enroll data-sets`: create, list, and set the rules by which snapshots are held."""

from datetime import UTC, datetime
from typing import Any, Final

import click
from sqlalchemy import Connection

from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.printable import moment_text, shell_word
from producer.fields import data_set_name_problem
from worker.commands.session import (
    DATABASE,
    EPILOG,
    NO_DATABASE,
    fail,
    print_json,
    print_message,
    print_table,
    with_database,
)
from worker.data_sets.repository import (
    TooManyDataSets,
    allow_snapshots,
    data_set_key,
    find_data_set,
    list_data_sets,
    set_rules,
)
from worker.database.clock import database_time
from worker.database.engine import Database, transaction
from worker.snapshots.rules import HoldRules, read_rules

RULES_EPILOG = DATABASE + exit_codes(refused="there is no such data set", unreachable=NO_DATABASE)
EXAMPLES = """
\b
Examples:
  enroll data-sets create sis:2026-fall
  enroll data-sets rules sis:2026-fall --drops 20
  enroll data-sets list
"""
CREATE_EXAMPLES = """
\b
Examples:
  enroll data-sets create sis:2026-fall
"""
RULES_EXAMPLES = """
\b
Examples:
  enroll data-sets rules sis:2026-fall
  enroll data-sets rules sis:2026-fall --drops 20 --course 80
  enroll data-sets rules sis:2026-fall --always
  enroll data-sets rules sis:2026-fall --default
"""
LIST_EXAMPLES = """
\b
Examples:
  enroll data-sets list
  enroll data-sets list --json
"""

HEADINGS: Final = ("data set", "snapshots", "rules", "last snapshot", "created")


class _Name(click.ParamType[str]):
    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        problem = data_set_name_problem(value)
        if problem is not None:
            self.fail(problem, param, ctx)
        return str(value)


_name = click.argument("name", type=_Name())
_PERCENT = click.FloatRange(0, 100)
_COUNT = click.IntRange(0, 2**31 - 1)


@click.group(epilog=DATABASE + "\n" + EXAMPLES)
def data_sets() -> None:
    """Create and list data sets, and say when snapshots are held.

    A data set is a feed that batches name, for example the export of a term: the enrollments that
    they open belong to it. A snapshot is a file that is the whole truth of its data set: what it
    does not name is dropped. Only the operator can allow snapshots of a data set.
    """


@data_sets.command(epilog=EPILOG + CREATE_EXAMPLES)
@_name
@with_database
def create(database: Database, name: str, as_json: bool) -> int:
    """Create a data set of which snapshots can be submitted.

    Nothing changes if it exists already, except that snapshots are allowed from now on.
    """

    def work(connection: Connection) -> tuple[Any, bool]:
        now = database_time(connection) or datetime.now(UTC)
        is_new = allow_snapshots(connection, data_set_key(connection, name, now))
        return find_data_set(connection, name), is_new

    try:
        row, is_new = transaction(database, work)
    except TooManyDataSets as error:
        fail(f"{error}.", ExitCode.USAGE)
    if as_json:
        print_json(_as_json(row))
    elif is_new:
        print_message(
            f"The data set {name} was created. Submit its files with `enroll submit --snapshot"
            f" {shell_word(name)} FILE`."
        )
    else:
        print_message(f"The data set {name} exists already. Nothing was changed.")
    return ExitCode.DONE


@data_sets.command(epilog=RULES_EPILOG + RULES_EXAMPLES)
@_name
@click.option("--always/--not-always", default=None, help="Hold every snapshot, or not.")
@click.option(
    "--drops",
    "drops_percent",
    type=_PERCENT,
    metavar="PERCENT",
    help="Hold a snapshot that drops more than this share of its enrollments.",
)
@click.option(
    "--rows",
    "drops_rows",
    type=_COUNT,
    metavar="NUMBER",
    help="Never hold a snapshot only for --drops if it drops no more than so many.",
)
@click.option(
    "--course",
    "course_percent",
    type=_PERCENT,
    metavar="PERCENT",
    help="Hold a snapshot if a course loses more than this share of its students.",
)
@click.option(
    "--course-students",
    type=_COUNT,
    metavar="NUMBER",
    help="Do not look at courses with fewer students.",
)
@click.option(
    "--not-owned",
    "not_owned_percent",
    type=_PERCENT,
    metavar="PERCENT",
    help="Hold a snapshot if more than this share of what it names exists and has no data set, or"
    " another one.",
)
@click.option(
    "--refused-lines/--no-refused-lines",
    default=None,
    help="Hold a snapshot if a refused line may be about an enrollment to be dropped, or not.",
)
@click.option(
    "--empty/--no-empty",
    "no_enrollments",
    default=None,
    help="Hold a snapshot that enrolls no student, or not.",
)
@click.option("--default", "resets", is_flag=True, help="Begin with the default rules.")
@with_database
def rules(
    database: Database, name: str, resets: bool, as_json: bool, **given: float | bool | None
) -> int:
    """Show when snapshots of a data set are held, or change that.

    Percentages are of the enrollments that the data set owned before. A snapshot that drops more
    than half of them is held, too, unless --drops allows more. Rules that are not given stay as
    they are. They count for plans that are made from now on.
    """
    changes = {rule: value for rule, value in given.items() if value is not None}

    def work(connection: Connection) -> Any | None:
        row = find_data_set(connection, name)
        if row is not None and (changes or resets):
            stored = {} if resets else read_rules(row.rules).model_dump(exclude_defaults=True)
            new = HoldRules.model_validate(stored | changes).model_dump(exclude_defaults=True)
            set_rules(connection, row.id, new or None)
            row = find_data_set(connection, name)
        return row

    row = transaction(database, work)
    if row is None:
        fail(
            f"there is no data set {name}. `enroll data-sets list` lists all of them;"
            " `enroll data-sets create` creates one.",
            ExitCode.REFUSED,
        )
    if as_json:
        print_json(_as_json(row))
    else:
        current = read_rules(row.rules)
        print_table(("rule", "value"), [(_words(k), _shown(v)) for k, v in current])
    return ExitCode.DONE


@data_sets.command("list", epilog=EPILOG + LIST_EXAMPLES)
@with_database
def list_all(database: Database, as_json: bool) -> int:
    """List data sets by name, also those that only name where enrollments come from."""
    with database.reading() as connection:
        rows = list_data_sets(connection)
    if as_json:
        for row in rows:
            print_json(_as_json(row))
    elif rows:
        print_table(HEADINGS, map(_cells, rows))
    else:
        print_message("There are no data sets. `enroll data-sets create NAME` creates one.")
    return ExitCode.DONE


def _as_json(row: Any) -> dict[str, Any]:
    return {
        "data_set": row.name,
        "snapshots": row.snapshots,
        "rules": read_rules(row.rules).model_dump(mode="json"),
        "last_snapshot": row.swept_at,
        "created_at": row.created_at,
    }


def _cells(row: Any) -> list[object]:
    own = read_rules(row.rules).model_dump(exclude_defaults=True)
    listed = ", ".join(f"{_words(rule)}: {_shown(value)}" for rule, value in own.items())
    return [
        row.name,
        "allowed" if row.snapshots else "no",
        listed or "default",
        None if row.swept_at is None else moment_text(row.swept_at),
        moment_text(row.created_at),
    ]


def _words(rule: str) -> str:
    return rule.replace("_", " ")


def _shown(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}"
