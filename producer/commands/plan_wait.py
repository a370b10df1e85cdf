"""Wait until a plan ends or needs a decision, and print what is being done."""

import math
import time
from collections.abc import Mapping
from typing import Final

from producer.client import EnrollmentClient
from producer.commands.session import Session
from producer.contract.batches import BatchState, BatchStatus
from producer.contract.plan_requests import PlanRequest
from producer.contract.plans import PlanState, PlanStatus
from producer.contract.printable import shell_argument
from producer.errors import (
    BatchNotDone,
    BrokerUnavailable,
    EnrollmentError,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.publishing.room import QUEUE_PATIENCE

PAUSE: Final = 0.25
"""Seconds between two look-ups of a plan that is being applied."""

UNDER_WAY: Final = (
    PlanState.STAGED,
    PlanState.APPROVED,
    PlanState.APPLYING,
    PlanState.SWEEPING,
)
"""The states that a plan leaves by itself."""

STAGES: Final[Mapping[str, str]] = {
    PlanState.STAGED: "All of it is stored. A worker is making the plan ...",
    PlanState.APPROVED: "There is no reason to hold the plan. A worker is about to apply it ...",
    PlanState.APPLYING: "The plan is being applied ...",
    PlanState.SWEEPING: "What the snapshot does not name is being dropped ...",
    "running": "The plan is being applied ...",
}
"""What is printed when a plan, or a batch of it, is seen in a state."""


class _Reporter:
    """Prints each stage and each problem once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._printed: set[str] = set()

    def print_once(self, sentence: str | None) -> None:
        if sentence and sentence not in self._printed:
            self._printed.add(sentence)
            self._session.err.print(sentence, markup=False)

    def of_batch(self, status: BatchStatus) -> None:
        self.print_once(STAGES.get(status.state))
        if status.state is BatchState.STAGED:
            self.print_once(status.advice)

    def of_outage(self, error: EnrollmentError) -> None:
        self.print_once(
            f"{str(error).rstrip('.')}. Waiting; the submission continues by itself ..."
        )

    def of_plan(self, status: PlanStatus) -> None:
        self.print_once(STAGES.get(status.state))
        if status.state in UNDER_WAY:
            self.print_once(status.advice)


def wait_for_plan(
    client: EnrollmentClient, request: PlanRequest, session: Session, seconds: float = math.inf
) -> PlanStatus:
    """Wait until a plan ends or needs a decision, at most some seconds, and return it.

    Raises BatchNotDone when the time is up, BatchCannotFinish, and NoWorkerAnswered if no worker
    goes on with it.
    """
    until = time.monotonic() + seconds
    reporter = _Reporter(session)
    for member in request.members:
        try:
            client.wait(
                member.batch_id,
                timeout=max(0.0, until - time.monotonic()),
                on_status=reporter.of_batch,
                on_error=reporter.of_outage,
            )
        except BatchNotDone:
            raise _not_ended(request, seconds) from None
        except NoWorkerAnswered as error:
            hint = f"See the plan later with: enroll plan {shell_argument(request.id)}"
            raise NoWorkerAnswered(f"{error} {hint}") from error
    answered_at = time.monotonic()
    while True:
        try:
            plan = client.plan(request.id)
        except (BrokerUnavailable, LookupFailed, NoWorkerAnswered) as error:
            if time.monotonic() - answered_at > QUEUE_PATIENCE:
                raise
            reporter.of_outage(error)
        else:
            answered_at = time.monotonic()
            if plan.state not in UNDER_WAY:
                return plan
            reporter.of_plan(plan)
        if time.monotonic() > until:
            raise _not_ended(request, seconds)
        time.sleep(PAUSE)


def _not_ended(request: PlanRequest, seconds: float) -> BatchNotDone:
    word = shell_argument(request.id)
    return BatchNotDone(
        f"After {seconds:g} s, the plan {request.id} is still under way. It continues by itself:"
        f" see it with `enroll plan {word}`, or wait longer with `enroll wait {word}`."
    )
