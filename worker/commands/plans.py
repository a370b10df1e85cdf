"""Implement `enroll approve` and `enroll discard`: decide about a plan, as the operator."""

from collections.abc import Iterator
from typing import Final

import click

from producer.contract.exit_codes import ExitCode, exit_codes
from producer.contract.plans import Decision, PlanState, PlanStatus
from producer.contract.printable import moment_text
from worker.batches.counts import ROW_COUNTS, in_words
from worker.commands.session import (
    DATABASE,
    NO_DATABASE,
    confirmed,
    print_json,
    print_message,
    with_database,
    yes_option,
)
from worker.database.engine import Database
from worker.plans.decisions import DecisionRefused, decide
from worker.plans.reports.lookups import plan_status

SHOWN_COURSES: Final = 20
"""The most courses with planned drops that are listed before the question."""

PLANS_EPILOG = DATABASE + exit_codes(
    refused="nothing was decided: the answer was no, or the plan does not wait for a decision",
    unreachable=NO_DATABASE,
)
APPROVE_EXAMPLES = """
\b
Examples:
  enroll approve nightly-2026-09-01
  enroll approve nightly-2026-09-01 --digest 2c26b46b68ffc68ff99b453c1d304134... --yes
"""
DISCARD_EXAMPLES = """
\b
Examples:
  enroll discard nightly-2026-09-01
  enroll discard nightly-2026-09-01 --yes
"""

plan_argument = click.argument("plan_id", metavar="PLAN")
digest_option = click.option(
    "--digest",
    metavar="DIGEST",
    help="Decide only if this is still the digest of the report. By default it is the one that is"
    " shown before the question.",
)


@click.command(epilog=PLANS_EPILOG + APPROVE_EXAMPLES)
@plan_argument
@digest_option
@yes_option
@with_database
def approve(database: Database, plan_id: str, digest: str | None, yes: bool, as_json: bool) -> int:
    """Let a held plan be applied.

    On a terminal, the command first shows what the plan would change, and asks; elsewhere it needs
    --yes. The plan is then applied by the next worker that is free. An approval never does more
    than the report shows: where a later request says something else, that request wins.
    """
    return _decide(database, plan_id, Decision.APPROVE, digest, yes=yes, as_json=as_json)


@click.command(epilog=PLANS_EPILOG + DISCARD_EXAMPLES)
@plan_argument
@digest_option
@yes_option
@with_database
def discard(database: Database, plan_id: str, digest: str | None, yes: bool, as_json: bool) -> int:
    """Discard a plan, so that it is never applied.

    This is for a plan that is held, that waits for chunks, or that was approved and has not begun
    to be applied. One that has begun can only be discarded if it cannot continue: what was applied
    then stays. On a terminal, the command first shows the plan, and asks; elsewhere it needs
    --yes.
    """
    return _decide(database, plan_id, Decision.DISCARD, digest, yes=yes, as_json=as_json)


def _decide(
    database: Database,
    plan_id: str,
    decision: Decision,
    digest: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> int:
    shown = plan_status(database, plan_id)

    def describe() -> None:
        for line in _described(shown):
            print_message(line)

    may_ask = shown.state not in (PlanState.UNKNOWN, PlanState.DISCARDED, PlanState.DONE)
    if may_ask and not confirmed(yes, verb=f"{decision}s a plan", describe=describe):
        return ExitCode.REFUSED
    is_held = shown.state is PlanState.HELD
    try:
        decide(database, plan_id, decision, digest or (shown.digest if is_held else None))
    except DecisionRefused as error:
        print_message(f"Nothing was decided. {error}")
        return ExitCode.REFUSED
    if as_json:
        print_json(plan_status(database, plan_id).model_dump(mode="json"))
    else:
        done = "approved; a worker applies it now" if decision is Decision.APPROVE else "discarded"
        print_message(f"The plan {plan_id} is {done}.")
    return ExitCode.DONE


def _described(status: PlanStatus) -> Iterator[str]:
    """Yield what a plan would change, line by line."""
    what = f"a snapshot of {status.data_set}" if status.snapshot else "a batch"
    of = " from ".join(filter(None, (status.file_name, status.submitter)))
    yield f"Plan {status.plan_id}: {what}{of and f' ({of})'}, {status.state}."
    if status.planned_at is not None:
        yield f"Its report was true at {moment_text(status.planned_at)}. Digest: {status.digest}"
    for batch in status.batches:
        counts = ((in_words(name), getattr(batch.books, name)) for name in ROW_COUNTS)
        listed = ", ".join(f"{words} {count:,}" for words, count in counts if count)
        yield f"  {batch.kind} {batch.batch_id}: {listed or 'nothing'}"
    if status.snapshot and status.planned_at is not None:
        yield (
            f"  Enrollments that the file does not name: {status.absent.absent:,} of"
            f" {status.owned_before:,}; {status.absent.dropped:,} would be dropped."
        )
        if passed_on := status.absent.passed_on:
            yield f"  Passed on to other data sets, because these name them: {passed_on:,}."
    for course in status.courses[:SHOWN_COURSES]:
        yield f"    {course.sis_id}: {course.drops:,} of {course.owned:,} students"
    if len(status.courses) > SHOWN_COURSES:
        yield f"    and {len(status.courses) - SHOWN_COURSES:,} more courses"
    for reason in status.reasons:
        yield f"  Held ({reason.code}): {reason.message}"
