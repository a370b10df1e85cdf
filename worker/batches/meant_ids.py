"""Find the ids that were probably meant by the unknown ids in refused lines."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from producer.contract.batches import RefusedRecord
from producer.schemas import Code
from worker.batches.causes import ROSTERS, guess
from worker.database.engine import Database

MAX_SECONDS: Final = 1.0
"""After this many seconds no further ids are examined: a client waits for the lines."""

MAX_IDS: Final = 1_000
"""The most ids that are examined for one page of refused lines, and for one cause of them."""


def add_meant_ids(database: Database, refusals: Sequence[RefusedRecord]) -> list[RefusedRecord]:
    """Return refused lines with the ids of the roster that their unknown ids probably mean.

    An id that may mean several has none.
    """
    until = time.monotonic() + MAX_SECONDS
    meant: dict[Code, dict[str, str]] = {}
    with database.reading() as connection:
        for code, model in ROSTERS.items():
            unknown = dict.fromkeys(
                sis_id
                for refusal in refusals
                if refusal.code is code
                for sis_id in _sis_ids(refusal)
            )
            if unknown:
                guesses, _ = guess([connection], model, list(unknown)[:MAX_IDS], until)
                meant[code] = {
                    sis_id: found.meant[0]
                    for sis_id, found in guesses.items()
                    if len(found.meant) == 1 and found.meant[0] != sis_id
                }
    return [_with_meant(refusal, meant.get(refusal.code, {})) for refusal in refusals]


def _with_meant(refusal: RefusedRecord, meant: dict[str, str]) -> RefusedRecord:
    own = {sis_id: meant[sis_id] for sis_id in _sis_ids(refusal) if sis_id in meant}
    return refusal.model_copy(update={"meant": own}) if own else refusal


def _sis_ids(refusal: RefusedRecord) -> Iterator[str]:
    """Yield the SIS ids in the record of a refusal for an unknown student or course."""
    record: Any = refusal.record
    if not isinstance(record, dict) or refusal.code not in ROSTERS:
        return
    courses = ("course_ids", "drop_course_ids")
    for name in ("student_id",) if refusal.code is Code.UNKNOWN_STUDENT else courses:
        ids = record.get(name)
        for sis_id in ids if isinstance(ids, list) else [ids]:
            if isinstance(sis_id, str):
                yield sis_id
