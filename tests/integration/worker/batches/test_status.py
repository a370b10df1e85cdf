"""The status of a batch: its counts balance at every moment, and its refusals are read in pages."""

import pytest
from sqlalchemy import text

from producer.contract.batches import BatchStatus
from producer.contract.chunks import RefusedLine, Tally
from producer.contract.marks import AgedMark, SubmissionMark
from producer.schemas import Code, Kind
from support.chunks import apply_chunk, books, chunk, pairs, status
from worker.batches.apply import ChunkOutcome
from worker.batches.places.repository import newest_batches
from worker.batches.state import STALLED_SECONDS
from worker.batches.status import applied_chunks, batch_statuses
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.models import LetterForm, LetterReason
from worker.refused_lines import lookups
from worker.refused_lines.lookups import refused_records


def test_the_counts_balance_while_chunks_are_missing(database: Database) -> None:
    first = chunk(pairs("A", "M1"), last=False)
    third = chunk(pairs("B", "M1"), number=2, before=Tally(requests=2, rows=3))
    apply_chunk(database, Kind.ENROLLMENTS, third)
    apply_chunk(database, Kind.ENROLLMENTS, first)
    assert books(database) == {"received": 4, "enrolled": 2, "not_applied": 2}
    found = status(database)
    assert (found.state, found.chunks, found.chunks_applied) == ("running", 3, 2)
    second = chunk(pairs("B", "M2", "M1"), number=1, before=Tally(requests=1, rows=1))
    apply_chunk(database, Kind.ENROLLMENTS, second.model_copy(update={"last": False}))
    assert status(database).state == "done"
    assert books(database) == {"received": 4, "enrolled": 3, "already_enrolled": 1}


def test_a_batch_of_chunks_that_do_not_belong_together_is_not_done(database: Database) -> None:
    """This happens if a file is submitted again under its batch id in chunks of another size."""
    first = chunk(pairs("A", "M1"), pairs("A", "M2"), last=False)
    other_first = chunk(pairs("A", "M1"), pairs("A", "M2"), pairs("B", "M1"), last=False)
    other_second = chunk(pairs("B", "M2"), number=1, before=Tally(requests=3, rows=3))
    assert apply_chunk(database, Kind.ENROLLMENTS, first) is ChunkOutcome.APPLIED
    assert apply_chunk(database, Kind.ENROLLMENTS, other_first) is ChunkOutcome.CONFLICT
    assert apply_chunk(database, Kind.ENROLLMENTS, other_second) is ChunkOutcome.APPLIED
    assert status(database).state == "done"  # Its client may have miscounted.
    letter = dead_letter(
        LetterForm.CALL,
        b"the other first",
        LetterReason.CONFLICT,
        "another was applied",
        batch_id="b",
    )
    keep(database, letter)
    found = status(database)
    assert (found.state, found.chunks, found.chunks_missing) == ("stalled", 2, 0)
    assert found.finished_at is None
    assert found.advice is not None
    assert found.conflicts == 1
    assert "new batch id" in found.advice
    assert books(database) == {"received": 4, "enrolled": 3, "not_applied": 1}
    with database.reading() as connection:
        assert newest_batches(connection, 10, 0, incomplete_only=True) == ["b"]


def test_a_conflict_is_told_of_a_batch_that_is_done_and_does_not_change_its_counts(
    database: Database,
) -> None:
    own = chunk(pairs("A", "M1"))
    assert apply_chunk(database, Kind.ENROLLMENTS, own) is ChunkOutcome.APPLIED
    before = status(database)
    assert (before.state, before.conflicts, before.advice) == ("done", 0, None)
    for number in range(2):
        letter = dead_letter(
            LetterForm.CALL, b"%d" % number, LetterReason.CONFLICT, "why", batch_id="b"
        )
        keep(database, letter)
    after = status(database)
    assert (after.state, after.conflicts) == ("done", 2)
    assert after.advice is not None
    assert "2 chunks were refused" in after.advice
    assert after.model_copy(update={"conflicts": 0, "advice": None}) == before


def test_a_claim_binds_until_a_chunk_could_not_be_processed(database: Database) -> None:
    claim = AgedMark(SubmissionMark(kind=Kind.ENROLLMENTS, first_chunk=-5), 1.0)

    def claimed_by() -> int | None:
        return applied_chunks(database, "b", [0], claim).first_chunk

    assert claimed_by() == -5
    assert applied_chunks(database, "b", [0]).first_chunk is None
    for reason, remains in ((LetterReason.CONFLICT, -5), (LetterReason.NOT_PROCESSED, None)):
        keep(database, dead_letter(LetterForm.CALL, reason.encode(), reason, "", batch_id="b"))
        assert claimed_by() == remains


def test_an_empty_batch_is_done(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk())
    assert (status(database).state, books(database)) == ("done", {})


def test_a_submitters_mark_distinguishes_queued_from_unknown(database: Database) -> None:
    left = SubmissionMark(kind=Kind.ENROLLMENTS, tally=Tally(requests=2, rows=5))
    queued, unknown = batch_statuses(
        database, ["q", "u"], {"q": AgedMark(left, 1.0)}, refusals=True
    )
    assert (queued.state, queued.books.received, queued.books.not_applied) == ("queued", 5, 5)
    assert unknown.state == "unknown"


def test_a_batch_whose_chunks_stop_arriving_is_stalled(database: Database) -> None:
    def status_of(chunks: int, *, complete: bool, seconds_ago: float) -> BatchStatus:
        tally = Tally(requests=chunks, rows=chunks)
        left = SubmissionMark(kind=Kind.ENROLLMENTS, tally=tally, chunks=chunks, complete=complete)
        found = {"b": AgedMark(left, seconds_ago)}
        return batch_statuses(database, ["b"], found, refusals=False)[0]

    long_ago = STALLED_SECONDS + 1
    assert status_of(2, complete=True, seconds_ago=1).state == "queued"
    assert status_of(2, complete=True, seconds_ago=long_ago).state == "stalled"
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1"), last=False))
    assert status_of(2, complete=True, seconds_ago=long_ago).state == "running"
    with database.writing() as connection:
        connection.execute(text("UPDATE batch_chunks SET applied_at = '2026-01-01 00:00:00+00:00'"))
    for complete, why in ((True, "chunks are missing"), (False, "the submitter stopped")):
        status = status_of(2, complete=complete, seconds_ago=long_ago)
        assert (status.state, status.chunks_missing) == ("stalled", 1)
        assert status.advice is not None
        assert why in status.advice
        assert "--resume" in status.advice
    assert status_of(1, complete=True, seconds_ago=long_ago).state == "done"


def test_refusals_are_read_page_by_page_in_the_order_of_their_lines(database: Database) -> None:
    records = [pairs("A", f"X{n}", f"Y{n}") for n in range(5)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*records, lines=[9, 7, 5, 3, 1]))
    read = []
    after = (0, 0)
    while page := refused_records(database, "b", after, 3):
        read += [(one.line, one.message) for one in page]
        after = (page[-1].line, page[-1].id)
    assert [line for line, _ in read] == [1, 1, 3, 3, 5, 5, 7, 7, 9, 9]
    assert len(set(read)) == 10


def test_refusals_for_one_cause_have_what_the_first_refusal_of_their_line_holds(
    database: Database,
) -> None:
    records = [pairs("A", f"X{n}", f"Y{n}") for n in range(5)]
    unread = [RefusedLine(line=n, message="bad", cells=("a", "b")).model_dump() for n in (2, 4)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*records, lines=[9, 7, 5, 3, 1], refused=unread))
    bare = refused_records(database, "b", (0, 0), 100)
    whole = refused_records(database, "b", (0, 0), 100, whole=True)
    assert [(one.line, one.id, one.message) for one in bare] == [
        (one.line, one.id, one.message) for one in whole
    ]
    assert sum(one.record is None and one.cells is None for one in bare) == 5
    assert all(one.record or one.cells for one in whole)
    for code in Code:
        read = []
        after = (0, 0)
        while page := refused_records(database, "b", after, 3, code, whole=True):
            read += page
            after = (page[-1].line, page[-1].id)
        assert read == [one for one in whole if one.code is code]
    second = refused_records(database, "b", (whole[0].line, whole[0].id), 1, whole=True)
    assert second == whole[1:2]


def test_a_page_of_whole_refusals_ends_within_the_bound_and_gets_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [{**pairs("A", f"X{n}", f"Y{n}"), "reason": "r" * 200} for n in range(5)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*records, lines=[9, 7, 5, 3, 1]))
    whole = refused_records(database, "b", (0, 0), 100, whole=True)
    monkeypatch.setattr(lookups, "MAX_ANSWER", 2_500)
    read = []
    pages = 0
    after = (0, 0)
    while page := refused_records(database, "b", after, 100, whole=True):
        read += page
        pages += 1
        after = (page[-1].line, page[-1].id)
    assert [(one.line, one.id) for one in read] == [(one.line, one.id) for one in whole]
    assert 1 < pages < len(whole)


def test_how_a_file_was_submitted_is_stored_with_its_batch(database: Database) -> None:
    mapping = {"student_id": "{who}"}
    choices = {"drop": True, "sections_are_one": True, "moments_from_file": True}
    form = {"delimiter": ";", "mapping": mapping, **choices}
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "X"), form=form))
    stored = status(database).form
    assert stored is not None
    assert stored.model_dump(include={"delimiter", "mapping", *choices}) == form


def test_what_an_older_version_does_not_know_is_stored_only_where_it_was_chosen(
    database: Database,
) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "X"), form={"delimiter": ";"}))
    with database.writing() as connection:
        stored = connection.scalar(text("SELECT form FROM batches"))
    assert "delimiter" in str(stored)
    assert not any(name in str(stored) for name in ("drop", "sections_are", "moments_from"))


def test_a_newer_version_may_store_more_about_a_file(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "X"), form={"delimiter": ";"}))
    with database.writing() as connection:
        form = '{"delimiter": ";", "of a newer version": 1}'
        connection.execute(text("UPDATE batches SET form = :form"), {"form": form})
    stored = status(database).form
    assert stored is not None
    assert stored.delimiter == ";"
