"""A plan reports what the run that follows does, and changes nothing that is real."""

from datetime import UTC, datetime

from producer.schemas import Kind
from support.chunks import chunk, pairs
from support.databases import store_roster
from support.planning import Member, everything, plan_input, planned, stored_refusals
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses
from worker.database.engine import Database
from worker.models import BatchRefusal

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)


def test_a_plan_reports_what_the_run_then_does(database: Database) -> None:
    store_roster(database, ["A", "B"], ["M1", "M2"])
    texts = [
        chunk(pairs("A", "M1", "M2"), pairs("C", "M1"), last=False).model_dump_json(),
        chunk(pairs("A", "M1"), pairs("B", "M9"), number=1).model_dump_json(),
    ]
    member = Member("b", Kind.ENROLLMENTS, texts, NOON)
    before = everything(database)

    made = planned(database, plan_input([member], NOON), times=2)

    assert everything(database) == before
    for text in texts:
        apply_chunk(database, Kind.ENROLLMENTS, text, origin=member.origin)
    (status,) = batch_statuses(database, ["b"], {}, refusals=False)
    (batch,) = made.batches
    assert batch.books == status.books
    assert batch.requests == status.requests_applied
    assert stored_refusals(database, "b") == stored_refusals(database, "b", BatchRefusal)
