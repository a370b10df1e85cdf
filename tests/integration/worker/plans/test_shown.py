"""What is shown of plans: lists of batches, stored chunks, planned drops and doctor."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from producer.contract.batches import AppliedChunks, BatchState, BatchStatus
from producer.contract.chunks import fingerprint_of
from producer.contract.findings import State
from producer.contract.plan_requests import PlanPurpose, PlanRequest
from producer.contract.plans import PlanState
from producer.schemas import Kind
from support.chunks import apply_chunk, chunk, pairs, status
from support.operator import ask
from support.staging import MOMENT, advance, chunks_of, request, stage
from worker.batches.listing import BatchSearch, batch_page
from worker.batches.status import applied_chunks, batch_statuses
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.models import Batch, LetterForm, LetterReason
from worker.monitoring.plan_checks import check_waiting_plans
from worker.plan_models import PlanRow
from worker.plans.reports.lookups import plan_or_queued, plan_status, with_stored_chunks

pytestmark = pytest.mark.usefixtures("roster")

HELD = request(hold="always")


def listed(database: Database, **search: object) -> list[tuple[str, BatchState]]:
    page = batch_page(
        database,
        BatchSearch(**search),  # type: ignore[arg-type]
        10,
        lambda ids: batch_statuses(database, ids, {}, refusals=False),
    )
    return [(batch.batch_id, batch.state) for batch in page.batches]


def stored(database: Database, *numbers: int) -> AppliedChunks:
    applied = applied_chunks(database, "b", numbers)
    return with_stored_chunks(database, "b", numbers, applied)


def test_batches_that_are_planned_are_in_the_list_at_their_moment(database: Database) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")], [])[0])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M2"), batch_id="now"))
    assert listed(database) == [("now", BatchState.DONE), ("b", BatchState.STAGED)]
    assert listed(database, state=BatchState.STAGED) == [("b", BatchState.STAGED)]
    assert listed(database, kind=Kind.ENROLLMENTS, submitter="registrar") == [
        ("b", BatchState.STAGED)
    ]
    assert listed(database, cursor=(MOMENT, "b")) == []


def test_what_was_only_planned_or_discarded_stays_in_the_lists(database: Database) -> None:
    unknown = request(("nods", Kind.ENROLLMENTS), snapshot=True)
    (refused,) = chunks_of(unknown, [pairs("A", "M1")], batch_id="nods", data_set="no-such")
    stage(database, refused, moment=MOMENT + timedelta(days=1))
    stage(database, chunks_of(request(purpose=PlanPurpose.REPORT), [pairs("A", "M1")])[0])
    advance(database)
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M2"), batch_id="now"))
    rows = {row["batch"]: row for row in ask(database, "batches")}
    assert [*rows] == ["now", "b", "nods"]
    assert {rows[name]["state"] for name in ("nods", "b")} == {"discarded", "planned"}
    assert rows["nods"]["file"] == "file.csv"
    assert rows["nods"]["submitter"] == "registrar"
    assert ("nods", BatchState.DISCARDED) in listed(database)
    (shown,) = batch_statuses(database, ["nods"], {}, refusals=False)
    assert shown.file_name == "file.csv"
    assert [row["batch"] for row in ask(database, "batches", "--limit", "1")] == ["now"]
    assert ask(database, "batches", "--unfinished") == []


@pytest.mark.parametrize(
    ("plan", "state"),
    [(HELD, PlanState.HELD), (request(snapshot=True), PlanState.DISCARDED)],
)
def test_a_plan_that_begins_while_it_is_looked_up_is_known(
    database: Database, plan: PlanRequest, state: PlanState
) -> None:
    """A worker takes the only chunk after the plan was looked for, and before the batch is."""
    data_set = "no-such" if plan.snapshot else None
    (only,) = chunks_of(plan, [pairs("A", "M1")], data_set=data_set)

    def find_batch() -> BatchStatus:
        stage(database, only)
        advance(database)
        return status(database, "b")

    assert plan_or_queued(database, "b", find_batch).state is state
    assert plan_or_queued(database, "other", lambda: None).state is PlanState.UNKNOWN


def test_a_batch_with_stored_and_refused_chunks_is_listed_once(database: Database) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")], [])[0])
    content = json.dumps({"batch_id": "b"}).encode()
    reason = LetterReason.NOT_PROCESSED
    keep(database, dead_letter(LetterForm.CALL, content, reason, "it broke", batch_id="b"))
    assert listed(database) == [("b", BatchState.STAGED)]
    found = status(database)
    assert found.chunks_failed == 1
    assert "1 of its chunks became a dead letter (it broke)" in str(found.advice)
    assert plan_status(database, "b").advice == found.advice


def test_the_rows_of_a_batch_count_as_received_until_they_are_applied(database: Database) -> None:
    plan = request(("s", Kind.STUDENTS), ("b", Kind.ENROLLMENTS), hold="always")
    first, _ = chunks_of(plan, [pairs("A", "M1", "M2")], [], columns=("student_id", "course_id"))
    stage(database, first)
    found = status(database)
    assert (found.books.received, found.books.not_applied, found.requests) == (2, 2, 1)
    assert (found.plan_id, found.file_name, found.submitter) == ("b", "file.csv", "registrar")
    assert (found.kind, found.submitted_at) == (Kind.ENROLLMENTS, MOMENT)
    assert found.columns == ("student_id", "course_id")
    assert (found.chunks, found.chunks_missing) == (None, 0)


@pytest.mark.parametrize("purpose", list(PlanPurpose))
def test_chunks_that_are_stored_are_not_sent_again(
    database: Database, purpose: PlanPurpose
) -> None:
    chunks = chunks_of(request(purpose=purpose), [pairs("A", "M1")], [pairs("B", "M1")])
    prints = [fingerprint_of(each.model_dump_json(exclude_unset=True)) for each in chunks]
    assert stored(database, 0, 1) == AppliedChunks(fingerprints=(None, None))
    stage(database, chunks[1])
    assert stored(database, 0, 1).fingerprints == (None, prints[1])
    stage(database, chunks[0])
    assert stored(database, 0, 1, 2).fingerprints == (*prints, None)
    advance(database)
    assert stored(database, 1, 0) == AppliedChunks(
        kind=Kind.ENROLLMENTS, fingerprints=(prints[1], prints[0])
    )


def test_doctor_names_what_waits_and_what_it_holds_back(database: Database) -> None:
    with database.reading() as connection:
        (found,) = check_waiting_plans(connection)
    assert found.state is State.OK
    stage(database, chunks_of(HELD, [pairs("A", "M1")])[0], moment=MOMENT - timedelta(days=1))
    advance(database)
    with database.reading() as connection:
        (found,) = check_waiting_plans(connection)
    assert found.state is State.WARNING
    assert "1 held" in found.found
    assert "`enroll prune` removes no history after 2026-08-31" in found.found
    assert "because of the plan b" in found.found
    assert "enroll approve" in str(found.remedy)
    part = chunk(pairs("A", "M1"), batch_id="unplanned", last=False)
    apply_chunk(database, Kind.ENROLLMENTS, part)
    with database.writing() as connection:
        connection.execute(update(Batch).values(moment=MOMENT - timedelta(days=2)))
        (found,) = check_waiting_plans(connection)
    assert "2026-08-30 00:00:00 UTC, because of the batch unplanned, which is not" in found.found


def test_doctor_warns_of_a_submission_that_stays_incomplete(database: Database) -> None:
    stage(database, chunks_of(HELD, [pairs("A", "M1")], [pairs("A", "M1")])[0])
    for since, state in ((timedelta(0), State.OK), (timedelta(hours=2), State.WARNING)):
        with database.writing() as connection:
            connection.execute(update(PlanRow).values(staged_at=datetime.now(UTC) - since))
            (found,) = check_waiting_plans(connection)
        assert found.state is state
    assert "has been waiting for its chunks or its report for 2 h" in str(found.remedy)
    assert "enroll discard" in str(found.remedy)
    assert "enroll approve" not in str(found.remedy)


def test_a_plan_that_another_version_has_accepted_is_still_shown_and_applied(
    database: Database,
) -> None:
    stage(database, chunks_of(request(), [pairs("A", "M1")])[0])
    with database.writing() as connection:
        accepted = connection.scalars(select(PlanRow.request)).one()
        accepted = {**accepted, "hold": "2%", "unknown": "field"}
        connection.execute(update(PlanRow).values(request=accepted))
    assert plan_status(database, "b").state is PlanState.STAGED
    assert advance(database).state is PlanState.DONE
