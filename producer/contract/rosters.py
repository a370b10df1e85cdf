"""Define which roster record wins: each field belongs to the record with the latest moment."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from producer.schemas import MAX_CHUNK_RECORDS

Named = tuple[datetime, str]
"""The value of a field with the moment of its record. The greater one wins: the later one, and at
equal moments the greater value by code point."""


class RosterRecord(NamedTuple):
    """What one record says about a student or course, and when it counts."""

    sis_id: str
    fields: Mapping[str, str]
    """The fields that it names."""
    moment: datetime


class MergedRecord(NamedTuple):
    """What the records of one SIS id say together."""

    sis_id: str
    fields: dict[str, Named]
    records: int
    """How many of the records name a field that no other of them supersedes, or no field at all."""


def merge(records: Iterable[RosterRecord]) -> list[MergedRecord]:
    """Merge the records of each SIS id, in any order; all others of them are superseded."""
    by_id: dict[str, list[RosterRecord]] = {}
    for record in records:
        by_id.setdefault(record.sis_id, []).append(record)
    return [_merged(sis_id, group) for sis_id, group in by_id.items()]


def _merged(sis_id: str, group: list[RosterRecord]) -> MergedRecord:
    fields: dict[str, Named] = {}
    for record in group:
        for name, value in record.fields.items():
            named = (record.moment, value)
            fields[name] = max(fields.get(name, named), named)
    if len(group) == 1:
        return MergedRecord(sis_id, fields, 1)
    counting = sum(_counts(record, fields) for record in group)
    return MergedRecord(sis_id, fields, counting)


def _counts(record: RosterRecord, fields: Mapping[str, Named]) -> bool:
    return not record.fields or any(
        fields[name] == (record.moment, value) for name, value in record.fields.items()
    )


def moment_of_record(batch: datetime, number: int, position: int) -> datetime:
    """Return the moment of a record in a batch whose records count one after another.

    `number` is that of its chunk, and `position` its place in the chunk.
    """
    return batch + timedelta(microseconds=number * MAX_CHUNK_RECORDS + position)


def roster_record(parsed: Any, moment: datetime) -> RosterRecord:
    """Return a record of the contract as a value that counts at a moment."""
    fields = parsed.model_dump(exclude_none=True, exclude={"sis_id", "as_of"})
    return RosterRecord(parsed.sis_id, fields, moment)
