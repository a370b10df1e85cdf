"""Remember where workers were lost that made a plan; give it up if several were lost at one place.

A process that is killed cannot say what it died of. So once one was lost, the next ones store which
chunk they are at. Knows no SQL.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from producer.contract.plan_requests import PlanRequest
from worker.plans.holder import Holder
from worker.plans.poison import way_out
from worker.plans.stored import Stored

MAX_DEATHS: Final = 3
"""How many workers may be lost at one place in a row, besides the first, which stored no place."""

_AT_THE_END: Final = ("", -1)
"""The place of a worker that has planned all chunks and makes the report."""

Place = tuple[str, int]
"""A batch, and the number of a chunk of it."""


class Deaths(NamedTuple):
    """How many workers were lost in a row at one place, while they made a plan."""

    place: Place | None = None
    workers: int = 0

    @classmethod
    def of(cls, plan: Any) -> "Deaths":
        """Return what the row of a plan says when a worker begins to make the plan."""
        stored = plan.progress or {}
        if not plan.attempts or "at" not in stored:
            return cls()
        place, before = _place(stored["at"]), _place(stored["died_at"])
        return cls(place, (stored["deaths"] if place == before else 0) + 1)

    def problem(self, request: PlanRequest) -> str | None:
        """Return why the plan is given up, for the submitter; None if it is not."""
        if self.place is None or self.workers < MAX_DEATHS:
            return None
        if self.place == _AT_THE_END:
            return (
                f"The plan could not be made: {self.workers + 1} workers were lost, the last"
                f" {self.workers} of them while they wrote the report, after all chunks. They"
                " probably ran out of memory. Ask the operator for the worker's log; then submit"
                " the file again under another batch id. Nothing was applied."
            )
        batch_id, number = self.place
        return (
            f"The plan could not be made: {self.workers + 1} workers were lost, the last"
            f" {self.workers} of them at chunk {number} of the batch {batch_id}. A record in it"
            f" probably kills the worker. {way_out(request)} Nothing was applied."
        )

    def watch(
        self, holder: Holder, batch_id: str, numbered: Iterable[tuple[int, Stored]]
    ) -> Iterator[Stored]:
        """Yield the chunks of a batch; store before each, by its number, that it is planned now.

        As long as no worker was lost, nothing is stored. Raises LeaseLost, DBAPIError.
        """
        for number, chunk in numbered:
            self._store(holder, (batch_id, number))
            yield chunk
        self._store(holder, _AT_THE_END)

    def _store(self, holder: Holder, place: Place) -> None:
        if holder.plan.attempts:
            holder.note({"at": place, "died_at": self.place, "deaths": self.workers})


def _place(stored: Any) -> Place | None:
    return None if stored is None else (stored[0], stored[1])
