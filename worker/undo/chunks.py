"""Make the chunks of an undo from the requests that undo changes. Pure functions, no SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from producer.contract.chunks import CheckedColumns, Chunk, EnrollmentChunk, Tally
from producer.schemas import StudentEnrollmentRequest
from worker.enrollment.reasoned import ReasonedChunk
from worker.undo.values import Reversal

REASON: Final = "undone"
"""The reason of the drops of an undo, which the history shows."""


def make_chunk(
    undo_id: str,
    number: int,
    reversals: Sequence[Reversal],
    counts_at: datetime,
    *,
    before: Tally,
    last: bool,
) -> Chunk:
    """Return a chunk of an undo that counts at a moment.

    If all requests only drop, or only enroll, and count at that moment, they are columns: these are
    decided faster. Students and courses are named by key.
    """
    fields: dict[str, Any] = {"batch_id": undo_id, "number": number, "before": before, "last": last}
    if any(reversal.counts_at != counts_at for reversal in reversals):
        return _chunk_of_records(fields, reversals)
    students = tuple(reversal.student for reversal in reversals)
    if not any(reversal.enrolled for reversal in reversals):
        dropped = tuple(tuple(reversal.dropped) for reversal in reversals)
        columns = _columns(student_ids=students, drop_course_ids=dropped)
        return ReasonedChunk.model_construct(requests=columns, reason=REASON, **fields)
    if not any(reversal.dropped for reversal in reversals):
        enrolled = tuple(tuple(reversal.enrolled) for reversal in reversals)
        columns = _columns(student_ids=students, course_ids=enrolled)
        return EnrollmentChunk.model_construct(requests=columns, **fields)
    return _chunk_of_records(fields, reversals)


def _columns(**columns: Any) -> CheckedColumns:
    # Not atomic: each pair is undone for itself.
    return CheckedColumns.model_construct(atomic=False, **columns)


def _chunk_of_records(fields: dict[str, Any], reversals: Sequence[Reversal]) -> Chunk:
    records = tuple(
        StudentEnrollmentRequest.model_construct(
            student_id=reversal.student,
            course_ids=tuple(reversal.enrolled),
            drop_course_ids=tuple(reversal.dropped),
            atomic=False,
            reason=REASON if reversal.dropped else None,
            as_of=reversal.counts_at,
        )
        for reversal in reversals
    )
    return EnrollmentChunk.model_construct(records=records, **fields)
