"""Store the results of a chunk's clean requests at once, for speed alone."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from producer.contract.chunks import Chunk, line_request_id, line_request_ids
from producer.schemas import Action, ResultStatus
from worker.database import copy
from worker.database.planning import stores_all_results
from worker.database.sets import COPY_ROWS
from worker.enrollment.reasoned import reason_of
from worker.enrollment.repository import add_results
from worker.enrollment.values import CleanRequest, StoredResult, Times
from worker.models import EnrollmentResult


def add_clean_results(
    connection: Connection,
    action: Action,
    requests: Sequence[CleanRequest],
    unchanged: Iterable[list[int]],
    chunk: Chunk,
    times: Times,
) -> None:
    """Store the results of a chunk's requests that were decided in all of their courses.

    `unchanged` has, at least for each request, the courses whose row existed before, or did not
    exist before it was dropped. Raises IntegrityError if one of the requests has a result already.
    """
    if not requests or not stores_all_results(connection):
        return
    if connection.dialect.name == "postgresql" and len(requests) >= COPY_ROWS:
        _copy_clean_results(connection, action, requests, unchanged, chunk, times)
        return
    is_drop, reason = action is Action.DROP, reason_of(chunk)
    results = [
        StoredResult(
            request_id=line_request_id(chunk.batch_id, chunk.number, position),
            fingerprint=None,
            student_id=student,
            student_sis_id=student_id if isinstance(student_id, str) else None,
            status=_CLEAN_STATUS[action],
            enrolled_ids=[] if is_drop else courses,
            already_enrolled_ids=[] if is_drop else same,
            errors=(),
            batch_id=chunk.batch_id,
            completed_at=times.stored,
            moment=times.batch,
            dropped_ids=courses if is_drop else (),
            not_enrolled_ids=same if is_drop else (),
            reason=reason,
        )
        for (position, student, student_id, courses), same in zip(requests, unchanged, strict=False)
    ]
    add_results(connection, results)


_CLEAN_STATUS = {Action.ENROLL: ResultStatus.ENROLLED, Action.DROP: ResultStatus.DROPPED}
_CLEAN_COLUMNS = {Action.ENROLL: ("enrolled", "already"), Action.DROP: ("dropped", "not_enrolled")}


_SHARED = (
    "status",
    "errors",
    "batch_id",
    "completed_at",
    "moment",
    "reason",
    "enrolled",
    "already",
)
"""The columns that are equal in all results of a chunk; the last two are not if it enrolls."""


def _copy_clean_results(
    connection: Connection,
    action: Action,
    requests: Sequence[CleanRequest],
    unchanged: Iterable[list[int]],
    chunk: Chunk,
    times: Times,
) -> None:
    """Do what `add_clean_results` does with COPY; format what all results share only once."""
    status = _CLEAN_STATUS[action].value
    shared = [status, "[]", chunk.batch_id, times.stored, times.batch, reason_of(chunk)]
    if action is Action.DROP:
        shared += ["[]", "[]"]
    prefix, _ = line_request_ids(chunk.batch_id, chunk.number)
    (id_start,) = copy.as_text([prefix])
    sis_ids = copy.as_text([r[2] if isinstance(r[2], str) else None for r in requests])
    end = "\t".join(copy.as_text(shared))
    # Of the courses to drop, an empty list is null.
    none = r"\N" if action is Action.DROP else "[]"
    own = ("request_id", "student_sis_id", "student_id", *_CLEAN_COLUMNS[action])
    names = (*own, *(name for name in _SHARED if name not in own))
    # The string of a Python list of integers is valid JSON. Most often, all courses are unchanged.
    lines = (
        f"{id_start}{position}\t{sis_id}\t{student}\t{text}\t"
        f"{text if same is courses else same or none}\t{end}"
        for sis_id, (position, student, _, courses), same in zip(
            sis_ids, requests, unchanged, strict=False
        )
        for text in (str(courses),)
    )
    copy.copy_lines(connection, EnrollmentResult.__tablename__, names, lines)
