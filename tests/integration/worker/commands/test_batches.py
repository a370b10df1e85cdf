"""`enroll batches`: what arrived, and what is missing."""

import json
import re

from producer.schemas import Kind
from support.malformed import message
from support.operator import ask, run
from worker.batches.apply import apply_chunk
from worker.batches.status import batch_statuses, recent_batch_ids
from worker.commands.batches import HEADINGS
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.messaging.quarantine import keep_message
from worker.models import LetterForm, LetterReason
from worker.recovery.isolate import call_letter


def test_batches_are_listed_with_what_is_missing(database: Database, roster: None) -> None:
    assert run(database, "batches") == ("", "There are no batches.\n")

    def apply(batch_id: str, number: int, *, last: bool) -> None:
        record = {"student_id": "S", "course_ids": ["C" if number else "NOPE"]}
        chunk = {"batch_id": batch_id, "number": number, "last": last, "records": [record]}
        apply_chunk(database, Kind.ENROLLMENTS, chunk)

    for number in (0, 1):
        apply("whole", number, last=number == 1)
    apply("gap", 2, last=True)
    apply("cut off", 0, last=False)
    apply_two_contents(database, "too few rows", first_rows=1)
    apply_two_contents(database, "too many rows", first_rows=5)
    refused = {"batch_id": "refused", "number": 0, "records": 5}
    raw = json.dumps(message([[refused], {}, {}], headers__task="enrollment.enroll_batch"))
    keep_message(database, raw.encode(), "batches", "records: must be a list")
    found = {line["batch"]: line for line in ask(database, "batches")}
    assert {name: line["state"] for name, line in found.items()} == {
        "too many rows": "stalled",
        "too few rows": "stalled",
        "cut off": "running",
        "gap": "running",
        "whole": "done",
        "refused": "stalled",
    }
    statuses = batch_statuses(database, [*found], {}, refusals=False)
    assert [status.state for status in statuses] == [line["state"] for line in found.values()]
    *applied, refused_id = found
    assert recent_batch_ids(database, 10) == [refused_id, *applied]
    assert recent_batch_ids(database, 3) == [refused_id, *applied[:2]]
    assert (found["gap"]["applied"], found["gap"]["of"]) == (1, 3)
    assert (found["cut off"]["applied"], found["cut off"]["of"]) == (1, None)
    assert (found["whole"]["rows"], found["whole"]["rejected"]) == (2, 1)
    assert (found["refused"]["kind"], found["refused"]["dead_letters"]) == (None, 1)
    conflicts = {name: line["conflicts"] for name, line in found.items() if line["conflicts"]}
    assert conflicts == {"too few rows": 1, "too many rows": 1}
    left = ask(database, "batches", "--unfinished")
    assert [line["batch"] for line in left] == [
        "too many rows",
        "too few rows",
        "cut off",
        "gap",
        "refused",
    ]
    assert ask(database, "batches", "--unfinished", "--limit", "2") == left[:2]
    out, _ = run(database, "batches", "--limit", "1")
    assert [line.split()[0] for line in out.splitlines()] == ["batch", "too"]
    assert re.split(r"  +", out.splitlines()[0].strip()) == [*HEADINGS]
    assert len(HEADINGS) == len(left[0])


def test_a_batch_of_which_only_a_dead_record_is_left_is_not_listed(database: Database) -> None:
    """Its chunk was applied once; then the batch was pruned, and the dead letter was kept."""
    letter = dead_letter(
        LetterForm.RECORD, b"{}", LetterReason.NOT_PROCESSED, "boom", batch_id="pruned"
    )
    keep(database, letter)
    assert run(database, "batches") == ("", "There are no batches.\n")


def apply_two_contents(database: Database, batch_id: str, first_rows: int) -> None:
    """Apply chunks of two submissions under one batch id, and store a third as a dead letter.

    The second chunk belongs to a submission whose first chunk, the third one, has three rows.
    """
    record = {"student_id": "S", "course_ids": ["C"]}
    first = {"batch_id": batch_id, "number": 0, "records": [record] * first_rows}
    before = {"requests": 3, "rows": 3}
    last = {"batch_id": batch_id, "number": 1, "last": True, "before": before, "records": [record]}
    for chunk in (first, last):
        apply_chunk(database, Kind.ENROLLMENTS, chunk)
    other = {"batch_id": batch_id, "number": 0, "records": [record] * 3}
    reason = "another chunk was applied under its batch and number"
    letter = call_letter("enrollment.enroll_batch", "t", [other], {}, LetterReason.CONFLICT, reason)
    keep(database, letter)
