"""Define the options of `enroll submit` about data sets and plans."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import click

from producer.publishing.planning import PlanOptions

_OPTIONS = (
    click.option(
        "--dry-run",
        is_flag=True,
        help="Only report what the submission would do, by the rules of a real run; nothing of it"
        " is ever applied.",
    ),
    click.option(
        "--snapshot",
        metavar="NAME",
        help="The file is the whole truth of this data set: enrollments of the data set that it"
        " does not name are dropped. A large change waits for a decision.",
    ),
    click.option(
        "--hold",
        metavar="RULE",
        help="Wait for a decision before anything is applied: always, or for a snapshot from a"
        " share of drops on, such as 2%.",
    ),
    click.option(
        "--adopt",
        is_flag=True,
        help="With --snapshot, let enrollments without an owner that the file names pass to the"
        " data set.",
    ),
    click.option(
        "--data-set",
        metavar="NAME",
        help="The data set that the enrollments of the file belong to, without a snapshot.",
    ),
)


def plan_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options, and pass what they say to a command, as `plan`.

    It raises UsageError for options that make no sense together.
    """

    @functools.wraps(command)
    def run(
        *args: Any,
        dry_run: bool,
        snapshot: str | None,
        hold: str | None,
        adopt: bool,
        data_set: str | None,
        **others: Any,
    ) -> int:
        plan = PlanOptions(data_set, dry_run, snapshot, hold, adopt)
        if (problem := plan.problem()) is not None:
            option = problem.option.replace("_", "-")
            raise click.UsageError(f"--{option}: {problem.message}.")
        return command(*args, plan=plan, **others)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def check_together(plan: PlanOptions, wait_timeout: float | None, *, check: bool) -> None:
    """Raise UsageError if options about plans stand where they have no effect."""
    if check and (option := next(_given(plan), None)) is not None:
        raise click.UsageError(
            f"--check reads the files here and submits nothing, so {option} has no effect. Leave"
            " one of the two out; --dry-run lets a worker say what would happen."
        )

    if wait_timeout is not None and not plan.is_planned:
        raise click.UsageError(
            "--wait-timeout is for the wait for a plan: use it with --dry-run, --snapshot or"
            " --hold. To wait for another batch, use --no-wait, then `enroll wait ID --timeout`."
        )


def _given(plan: PlanOptions) -> Iterator[str]:
    for name, value in plan._asdict().items():
        if value:
            yield f"--{name.replace('_', '-')}"
