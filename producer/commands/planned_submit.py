"""Submit files as one plan, and show its report, for `enroll submit`."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import click

from producer.commands import plan_display
from producer.commands.inputs import Input
from producer.commands.plan import exit_code
from producer.commands.plan_wait import wait_for_plan
from producer.commands.progress import submit_source
from producer.commands.resume import PlanPart, ResumeJournal
from producer.commands.session import Session
from producer.commands.terminal import print_json, tell
from producer.contract.batches import BatchStatus
from producer.contract.exit_codes import ExitCode
from producer.contract.plan_requests import PlanRequest
from producer.contract.plans import PlanState, PlanStatus
from producer.contract.printable import shell_argument, shell_word
from producer.errors import BatchNotDone
from producer.files.describing import Choices
from producer.files.snapshots import may_end, without_drops
from producer.files.submitted import check_planned
from producer.publishing.planning import PlanOptions
from producer.schemas import Kind


class PlannedOptions(NamedTuple):
    """How inputs are submitted as one plan; `ids` has the id of each, and whether it is known."""

    choices: Choices
    plan: PlanOptions
    ids: Mapping[str, tuple[str, bool]]
    wait: bool
    max_queued: int
    submitter: str | None
    wait_timeout: float = math.inf
    """The longest wait for the plan, in seconds."""


def submit_planned(
    session: Session, inputs: Sequence[Input], journal: ResumeJournal, options: PlannedOptions
) -> int:
    """Submit all inputs as one plan, rosters first; show its report, and return the exit code.

    Raises UsageError, UnreadableFile, and what `submit_source` raises.
    """
    ordered = sorted(inputs, key=lambda entry: entry.source.kind is Kind.ENROLLMENTS)
    request = _request_of(ordered, options)
    _begin(journal, ordered, request, options)
    try:
        for entry in ordered:
            _submit(session, entry, request, options)
    except KeyboardInterrupt:
        return _interrupted(ordered, options)
    if not options.wait:
        return _left_alone(session, ordered, request)
    try:
        plan = wait_for_plan(session.client, request, session, options.wait_timeout)
    except KeyboardInterrupt:
        return _stopped_waiting(request)
    except BatchNotDone as error:
        tell(f"Error: {error}")
        return ExitCode.UNREACHABLE
    _show(session, ordered, plan)
    journal.finish(entry.files for entry in ordered if entry.files)
    return exit_code(plan)


def begun_plan(
    journal: ResumeJournal, inputs: Sequence[Input], plan: PlanOptions
) -> dict[str, str]:
    """Return the id of each input, by name, of the same submission that was interrupted.

    They are in the order of that submission, which decides what the plan and its batches are.
    """
    names = {entry.files: entry.name for entry in inputs if entry.files}
    found = journal.find_plan(names, _text_of(plan))
    return {names[files]: batch_id for files, batch_id in found.items()}


def _text_of(plan: PlanOptions) -> str:
    return json.dumps(plan)


def _begin(
    journal: ResumeJournal, ordered: Sequence[Input], request: PlanRequest, options: PlannedOptions
) -> None:
    """Record all inputs: an interrupted submission must be continued under all of its ids."""
    inputs = {entry.name: entry for entry in ordered}
    text = _text_of(options.plan)
    for place, (name, entry) in enumerate(inputs.items()):
        if entry.files:
            part = PlanPart(request.id, text, place, len(inputs))
            journal.begin(entry.files, options.ids[name][0], part)


def _request_of(inputs: Sequence[Input], options: PlannedOptions) -> PlanRequest:
    packages = {id(entry.package): entry.package for entry in inputs}
    sources = [entry.source for entry in inputs]
    for package in packages.values():
        check_planned(sources, options.choices, options.plan, package)
    enrollments = [entry for entry in inputs if entry.source.kind is Kind.ENROLLMENTS]
    is_package = len({id(e.package) for e in enrollments}) == 1 and enrollments[0].package
    if options.plan.snapshot is not None and len(enrollments) > 1 and not is_package:
        raise click.UsageError(
            "--snapshot: one file of enrollments is the whole truth of a data set, but there are"
            f" {len(enrollments)}. Write all enrollments into one file, or submit the files of an"
            " export as a package."
        )
    members = [(entry.batch_id(options.ids[entry.name][0]), entry.source.kind) for entry in inputs]
    request = options.plan.request_of(members)
    if request is None:
        raise ValueError("the options ask for no plan")
    return request


def _submit(
    session: Session, entry: Input, request: PlanRequest, options: PlannedOptions
) -> BatchStatus:
    source = entry.source
    own_id, is_known = options.ids[entry.name]
    records = None
    is_snapshot = request.snapshot and source.kind is Kind.ENROLLMENTS
    if is_snapshot and may_end(source.layout):
        records = without_drops(source, source.records())
    return submit_source(
        session.client,
        source,
        session.err,
        batch_id=entry.batch_id(own_id),
        resume=is_known,
        wait=False,
        max_queued=options.max_queued,
        submitter=options.submitter,
        membership=options.plan.membership(source.kind, request),
        records=records,
    )


def _interrupted(inputs: Sequence[Input], options: PlannedOptions) -> int:
    has_paths = all(entry.files for entry in inputs)
    own_id = options.ids[inputs[-1].name][0]
    option = "--resume" if has_paths else f"--batch-id {shell_word(own_id)}"
    tell(
        "Interrupted. Nothing is planned or applied until all of the submission has arrived. To"
        f" submit the rest, run the same command with {option}."
    )
    return ExitCode.INTERRUPTED


def _stopped_waiting(request: PlanRequest) -> int:
    tell(
        "Interrupted. All of the submission has arrived, so it continues by itself. To see how"
        f" it ends, run: enroll plan {shell_argument(request.id)}"
    )
    return ExitCode.INTERRUPTED


def _left_alone(session: Session, inputs: Sequence[Input], request: PlanRequest) -> int:
    """Print the id of a plan that is not waited for."""
    for entry in inputs:
        session.print_notices(entry.source.notices)
    plan = PlanStatus(plan_id=request.id, state=PlanState.STAGED, purpose=request.purpose)
    tell(f"See the plan with: enroll plan {shell_argument(request.id)}")
    session.show(plan, request.id)
    return ExitCode.DONE


def _show(session: Session, inputs: Sequence[Input], plan: PlanStatus) -> None:
    """Print new notices, and the report of the plan; JSON has all notices."""
    notices = [sentence for entry in inputs for sentence in entry.source.notices]
    for entry in inputs:
        session.print_notices(entry.source.notices)
    if session.as_json:
        print_json({**plan.model_dump(), "notices": notices})
    else:
        session.out.print(plan_display.plan(plan))
