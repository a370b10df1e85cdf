"""Define the verbs about plans of the asynchronous client: read a plan, and decide."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from producer.aio.calls import verb
from producer.aio.submitter import AsyncEnrollmentSubmitter
from producer.contract.plans import Decision, PlannedDrop, PlannedDropsPage, PlanStatus
from producer.contract.routing import TaskName
from producer.contract.undos import BatchUndo
from producer.errors import ClientClosed, LookupFailed
from producer.fields import MAX_LOOKUP
from producer.publishing.arguments import (
    check_arguments,
    decision_arguments,
    drops_arguments,
)
from producer.publishing.deciding import DECISION_HINT, decided, known_drops
from producer.publishing.undoing import PREVIEW_HINT, UNDO_HINT, accepted


class AsyncEnrollmentPlanner(AsyncEnrollmentSubmitter):
    """The verbs that publish and those about plans; the client adds the other reads."""

    @verb
    async def plan(self, plan_id: str) -> PlanStatus:
        """Return the state of a plan and its report."""
        check_arguments(plan_id=plan_id)
        status: PlanStatus = await self._ask(TaskName.PLAN, [plan_id])
        return status

    @verb
    async def planned_drop_page(
        self, plan_id: str, *, after: tuple[int, int] | None = None, limit: int = MAX_LOOKUP
    ) -> PlannedDropsPage:
        """Return a page of the enrollments that a plan drops, in the order of their keys."""
        arguments = drops_arguments(plan_id, after, limit)
        page: PlannedDropsPage = await self._ask(TaskName.PLANNED_DROPS, *arguments)
        return known_drops(plan_id, page)

    def planned_drops(self, plan_id: str) -> AsyncIterator[PlannedDrop]:
        """Return every enrollment that a plan drops, by its keys, for `async for`."""
        if self.closed:
            raise ClientClosed
        check_arguments(plan_id=plan_id)
        return self._planned_drops(plan_id)

    async def _planned_drops(self, plan_id: str) -> AsyncIterator[PlannedDrop]:
        page = await self.planned_drop_page(plan_id)
        for drop in page.drops:
            yield drop
        while page.next is not None:
            page = await self.planned_drop_page(plan_id, after=page.next)
            for drop in page.drops:
                yield drop

    @verb
    async def decide(self, plan_id: str, decision: Decision | str, digest: str) -> PlanStatus:
        """Approve or discard a plan that is held, and return its status afterwards."""
        arguments = decision_arguments(plan_id, decision, digest)
        failure: LookupFailed | None = None
        try:
            status: PlanStatus = await self._connection.ask(
                TaskName.DECIDE, arguments, timeout=self.timeout, hint=DECISION_HINT
            )
        except LookupFailed as error:
            failure, status = error, await self.plan(plan_id)
        return decided(status, decision, digest, failure)

    @verb
    async def undo(self, batch_id: str, *, dry_run: bool = False) -> BatchUndo:
        """Undo a batch of enrollments; with `dry_run`, only return what that would change."""
        check_arguments(batch_id=batch_id)
        task = TaskName.REHEARSE_UNDO if dry_run else TaskName.UNDO
        hint = PREVIEW_HINT if dry_run else UNDO_HINT
        undo: BatchUndo = await self._connection.ask(
            task, [batch_id], timeout=self.timeout, hint=hint, expires=dry_run
        )
        return accepted(undo)

    async def _ask(
        self, task: TaskName, args: list[Any], kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return await self._connection.ask(task, args, kwargs, timeout=self.timeout)
