"""What the lookup tasks answer: reads only, each for many ids at once; knows no Celery."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from producer.schemas import (
    CODE_MEANINGS,
    BatchStatus,
    Books,
    Code,
    RefusalGroup,
    RequestStatus,
    StudentCourse,
    StudentEnrollmentResponse,
    StudentResponse,
    Submission,
    Tally,
)
from worker import repository
from worker.database import Database
from worker.service import respond

RefusalGroups = tuple[RefusalGroup, ...]


def request_statuses(
    database: Database, request_ids: Sequence[str], submissions: Mapping[str, Submission]
) -> list[RequestStatus]:
    """Where each request stands: what SQL knows, else what its submitter left. Same order."""
    with database.reading() as connection:
        results = respond(connection, repository.find_results(connection, request_ids))
    done = {result.request_id: result for result in results}
    return [
        RequestStatus(request_id=i, state="done", result=done[i])
        if i in done
        else RequestStatus(
            request_id=i, state=submissions[i].state if i in submissions else "unknown"
        )
        for i in request_ids
    ]


def student_results(
    database: Database, asked: Sequence[int | str], limit: int
) -> list[list[StudentEnrollmentResponse]]:
    """For each student the newest outcomes, at most `limit`; also of students that are unknown."""
    with database.reading() as connection:
        return [
            respond(connection, repository.find_results_of_student(connection, student, limit))
            for student in asked
        ]


def students(database: Database, asked: Sequence[int | str]) -> list[StudentResponse | None]:
    """Each student with its courses, None where there is no such student. Same order."""
    with database.reading() as connection:
        keys = repository.find_students(connection, asked)
        rows = {r.id: r for r in repository.describe_students(connection, keys.values())}
        courses: dict[int, list[StudentCourse]] = {key: [] for key in rows}
        for row in repository.courses_of_students(connection, rows):
            courses[row.student_id].append(
                StudentCourse(
                    id=row.id, sis_id=row.sis_id, title=row.title, enrolled_at=row.enrolled_at
                )
            )
    return [
        StudentResponse(
            id=rows[key].id,
            sis_id=rows[key].sis_id,
            name=rows[key].name,
            email=rows[key].email,
            courses=tuple(courses[key]),
        )
        if key is not None
        else None
        for key in map(keys.get, asked)
    ]


def batch_statuses(
    database: Database,
    batch_ids: Sequence[str],
    submissions: Mapping[str, Submission],
    *,
    refusals: bool,
) -> list[BatchStatus]:
    """Where each batch stands, on request with its refusals by cause. Same order.

    The submissions must have been read before: what is applied was submitted by then.
    """
    with database.reading() as connection:
        ledgers = {row.id: row for row in repository.sum_chunks(connection, batch_ids)}
        groups = {
            batch_id: _refusal_groups(connection, batch_id)
            for batch_id in ledgers
            if refusals and ledgers[batch_id].rejected
        }
    return [
        _batch_status(i, ledgers.get(i), submissions.get(i), groups.get(i, ())) for i in batch_ids
    ]


def _batch_status(
    batch_id: str, ledger: Any | None, submission: Submission | None, refusals: RefusalGroups
) -> BatchStatus:
    submitted = submission.tally if submission else Tally()
    chunks = submission.chunks if submission else None
    if ledger is None:
        return BatchStatus(
            batch_id=batch_id,
            state="queued" if submission else "unknown",
            kind=submission.kind if submission else None,
            books=Books(received=submitted.rows, not_applied=submitted.rows),
            requests=submitted.requests,
            chunks=chunks,
        )
    received = max(submitted.rows, ledger.rows_through, ledger.rows)
    chunks = ledger.chunks if ledger.chunks is not None else chunks
    done = chunks is not None and ledger.applied >= chunks
    return BatchStatus(
        batch_id=batch_id,
        state="done" if done else "running",
        kind=ledger.kind,
        books=Books(
            received=received,
            enrolled=ledger.enrolled,
            already_enrolled=ledger.already_enrolled,
            upserted=ledger.upserted,
            unchanged=ledger.unchanged,
            rejected=ledger.rejected,
            not_applied=received - ledger.rows,
        ),
        requests=max(submitted.requests, ledger.requests_through, ledger.requests),
        requests_rejected=ledger.requests_rejected,
        chunks=chunks,
        chunks_applied=ledger.applied,
        refusals=refusals,
        started_at=ledger.started_at,
        finished_at=ledger.finished_at if done else None,
    )


def _refusal_groups(connection: Connection, batch_id: str) -> RefusalGroups:
    return tuple(
        RefusalGroup(
            code=Code(code),
            message=CODE_MEANINGS[Code(code)],
            count=count,
            first_lines=tuple(line for line, _ in first),
            example=first[0].message,
        )
        for code, count, first in repository.group_refusals(connection, batch_id)
    )
