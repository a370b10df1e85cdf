"""Name the counts of a batch in the words that people read."""

from producer.contract.batches import BatchStatus
from producer.schemas import Kind


def applied_counts(status: BatchStatus) -> list[tuple[str, int]]:
    """Return the counts of the rows that are applied, in order, each with its name.

    Drops are counted if there are any, and enrollments unless there are only drops.
    """
    books = status.books
    if status.kind is Kind.ENROLLMENTS:
        enrolls = [("enrolled", books.enrolled), ("already enrolled", books.already_enrolled)]
        drops = [("dropped", books.dropped), ("not enrolled", books.not_enrolled)]
        has_drops = books.dropped > 0 or books.not_enrolled > 0
        has_enrolls = books.enrolled > 0 or books.already_enrolled > 0
        counts = (enrolls if has_enrolls or not has_drops else []) + (drops if has_drops else [])
    else:
        counts = [("added or changed", books.upserted), ("unchanged", books.unchanged)]
    counts += [("superseded", books.superseded)] if books.superseded else []
    return [*counts, ("rejected", books.rejected)]
