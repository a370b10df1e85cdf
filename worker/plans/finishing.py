"""End a plan that was applied: say what was done, and how it differs from what was planned."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from producer.contract.batches import Books
from producer.contract.plans import AbsentRows, PlannedBatch, PlanState
from worker.batches.counts import ROW_COUNTS, in_words
from worker.batches.repository import sum_chunks
from worker.batches.status import books_of
from worker.database.engine import Database
from worker.plans.holder import Holder
from worker.plans.repository import find_snapshots_applied_since
from worker.snapshots.sweep import swept_rows
from worker.snapshots.swept.repository import count_dropped_by_course

_ABSENT = {
    "dropped": "dropped",
    "passed_on": "passed on to another data set",
    "kept_newer": "kept because of a later request",
    "not_enrolled": "no longer enrolled",
}
"""The fates of enrollments that a snapshot does not name, in words."""


def finish_applied(database: Database, holder: Holder) -> None:
    """End a plan of which everything was applied. Raises LeaseLost, DBAPIError."""
    planned = [PlannedBatch.model_validate(each) for each in holder.plan.report["batches"]]
    with database.reading() as connection:
        ledgers = {row.id: row for row in sum_chunks(connection, [b.batch_id for b in planned])}
        absent = AbsentRows.model_validate(holder.plan.report.get("absent", {}))
        swept = swept_rows(connection, holder.plan.id, absent)
        dropped = count_dropped_by_course(connection, holder.plan.id)
        others = list(_others(connection, holder.plan))
    done = {key: books_of(ledger, ledger.rows) for key, ledger in ledgers.items()}
    sentences = [*others, *differences(planned, done), *absent_differences(absent, swept)]
    applied: dict[str, Any] = {"differences": sentences}
    if holder.plan.request["snapshot"]:
        applied["absent"] = swept.model_dump(mode="json")
        shown = [course["course_id"] for course in holder.plan.report.get("courses", ())]
        applied["courses"] = {str(key): dropped.get(key, 0) for key in shown}
    holder.do(lambda c: holder.finish(c, PlanState.DONE, applied=applied, detail=None))


def _others(connection: Connection, plan: Any) -> Iterator[str]:
    """Yield a sentence if another snapshot of the data set was applied after the report was made.

    The report cannot show what that one enrolled, and a plan only drops what its report shows.
    """
    if not plan.request["snapshot"]:
        return
    others = find_snapshots_applied_since(connection, plan.data_set, plan.planned_at, plan.id)
    if others:
        yield (
            f"After the report was made, {', '.join(others)} of the same data set was applied. This"
            " plan did not drop what that enrolled, even if this file does not name it. To have it"
            " dropped, submit this file again under another batch id."
        )


def differences(planned: Sequence[PlannedBatch], done: Mapping[str, Books]) -> Iterator[str]:
    """Yield a sentence for each count that is not the one that was planned."""
    for batch in planned:
        books = done.get(batch.batch_id, Books())
        for name in ROW_COUNTS:
            before, after = getattr(batch.books, name), getattr(books, name)
            if before != after:
                yield (
                    f"{batch.batch_id}: {after:,} rows were {in_words(name)} instead of"
                    f" {before:,} as planned, because students, courses or enrollments changed in"
                    " the meantime."
                )


def absent_differences(planned: AbsentRows, done: AbsentRows) -> Iterator[str]:
    """Yield a sentence for each kind of enrollments that the file does not name, if it differs."""
    for name, words in _ABSENT.items():
        before, after = getattr(planned, name), getattr(done, name)
        if before != after:
            yield (
                f"{after:,} of the enrollments that the file does not name were {words} instead of"
                f" {before:,} as planned, because later requests or other data sets changed them."
            )
