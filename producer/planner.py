"""Define the verbs about plans: read the report and the planned drops, and decide."""

from collections.abc import Iterator
from typing import Any

from producer.call_log import verb
from producer.contract.plans import Decision, PlannedDrop, PlannedDropsPage, PlanStatus
from producer.contract.routing import TaskName
from producer.contract.undos import BatchUndo
from producer.errors import LookupFailed
from producer.fields import MAX_LOOKUP
from producer.publishing.arguments import (
    check_arguments,
    decision_arguments,
    drops_arguments,
)
from producer.publishing.deciding import DECISION_HINT, decided, known_drops
from producer.publishing.undoing import PREVIEW_HINT, UNDO_HINT, accepted
from producer.submitter import EnrollmentSubmitter


class EnrollmentPlanner(EnrollmentSubmitter):
    """The verbs that publish and those about plans; `EnrollmentClient` adds the other reads."""

    @verb
    def plan(self, plan_id: str) -> PlanStatus:
        """Return the state of a plan and its report.

        The id of a plan is the `plan_id` of each of its batches. The state of a plan that is not
        known is `unknown`. Raises NoWorkerAnswered.
        """
        check_arguments(plan_id=plan_id)
        status: PlanStatus = self._ask(TaskName.PLAN, [plan_id])
        return status

    @verb
    def planned_drop_page(
        self, plan_id: str, *, after: tuple[int, int] | None = None, limit: int = MAX_LOOKUP
    ) -> PlannedDropsPage:
        """Return a page of the enrollments that a plan drops, in the order of their keys.

        To get the next page, pass the `next` of a page as `after`, until it is None. Raises
        DropsNotKnown if the plan is unknown or its report is not made, and NoWorkerAnswered.
        """
        page: PlannedDropsPage = self._ask(
            TaskName.PLANNED_DROPS, *drops_arguments(plan_id, after, limit)
        )
        return known_drops(plan_id, page)

    @verb
    def planned_drops(self, plan_id: str) -> Iterator[PlannedDrop]:
        """Return every enrollment that a plan drops, by its keys.

        Raises DropsNotKnown if the plan is unknown or its report is not made, and NoWorkerAnswered.
        """
        check_arguments(plan_id=plan_id)
        return self._planned_drops(plan_id)

    def _planned_drops(self, plan_id: str) -> Iterator[PlannedDrop]:
        page = self.planned_drop_page(plan_id)
        yield from page.drops
        while page.next is not None:
            page = self.planned_drop_page(plan_id, after=page.next)
            yield from page.drops

    @verb
    def decide(self, plan_id: str, decision: Decision | str, digest: str) -> PlanStatus:
        """Approve or discard a plan that is held, and return its status afterwards.

        `digest` is that of the report on which the decision rests: if the plan was made again in
        the meantime, nothing happens. The broker must let its user publish to the queue
        `decisions`. Raises DecisionRefused if the decision does not count, InvalidRequest if the
        digest is not one, and NoWorkerAnswered; then the decision may still count later.
        """
        arguments = decision_arguments(plan_id, decision, digest)
        failure: LookupFailed | None = None
        try:
            status: PlanStatus = self._connection.ask(
                TaskName.DECIDE, arguments, timeout=self.timeout, hint=DECISION_HINT
            )
        except LookupFailed as error:
            failure, status = error, self.plan(plan_id)
        return decided(status, decision, digest, failure)

    @verb
    def undo(self, batch_id: str, *, dry_run: bool = False) -> BatchUndo:
        """Undo a batch of enrollments: drop what it enrolled, and enroll again what it dropped.

        This counts right after the batch, so every later request wins. The undo is a batch of its
        own, with the id `undo_id`: wait for it, or look it up. If it takes longer than a few
        seconds, its state is `running`, and a worker goes on. A repeat does no harm. With
        `dry_run`, nothing changes, and what is returned shows what would.

        The broker must let its user publish to the queue `decisions`. Raises UndoRefused if the
        batch is unknown or cannot be undone, and NoWorkerAnswered; then it may be undone later.
        """
        check_arguments(batch_id=batch_id)
        task = TaskName.REHEARSE_UNDO if dry_run else TaskName.UNDO
        hint = PREVIEW_HINT if dry_run else UNDO_HINT
        undo: BatchUndo = self._connection.ask(
            task, [batch_id], timeout=self.timeout, hint=hint, expires=dry_run
        )
        return accepted(undo)

    def _ask(self, task: TaskName, *arguments: Any) -> Any:
        return self._connection.ask(task, *arguments, timeout=self.timeout)
