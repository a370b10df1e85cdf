"""Define which roster record wins: each field belongs to the record with the latest moment."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple

from producer.contract.chunks import KIND_MODELS
from producer.contract.refusals import MAX_AHEAD
from producer.fields import MAX_CHUNK_RECORDS
from producer.schemas import Kind

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

ROSTER_FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    kind: tuple(name for name in KIND_MODELS[kind].model_fields if name not in ("sis_id", "as_of"))
    for kind in (Kind.STUDENTS, Kind.COURSES)
}
"""The fields of the roster that have moments, in the order in which values are listed here."""


class RosterRecord(NamedTuple):
    """What one record says about a student or course, and when it counts."""

    sis_id: str
    values: tuple[str | None, ...]
    """The value of each field; None if the record does not name it."""
    moment: int
    """In microseconds since 1970."""


class MergedRecord(NamedTuple):
    """What the records of one SIS id say together."""

    sis_id: str
    values: tuple[str | None, ...]
    moments: tuple[int | None, ...]
    """When each value counts; None if no record names the field."""
    records: tuple[RosterRecord, ...]
    """What was merged."""


def merge(records: Iterable[RosterRecord]) -> list[MergedRecord]:
    """Merge the records of each SIS id, in any order.

    The later value of a field wins, and at equal moments the greater one by code point.
    """
    listed = list(records)
    by_id = {record[0]: record for record in listed}
    if len(by_id) == len(listed):
        if not any(None in record[1] for record in listed):
            # Nearly always: without a call for each of thousands of records.
            return [MergedRecord(r[0], r[1], (r[2],) * len(r[1]), (r,)) for r in listed]
        return list(map(_alone, listed))
    groups: dict[str, list[RosterRecord]] = {sis_id: [] for sis_id in by_id}
    for record in listed:
        groups[record.sis_id].append(record)
    return [_alone(group[0]) if len(group) == 1 else _merged(group) for group in groups.values()]


def _alone(record: RosterRecord) -> MergedRecord:
    sis_id, values, moment = record
    moments: tuple[int | None, ...] = (moment,) * len(values)
    if None in values:
        moments = tuple([None if value is None else moment for value in values])
    return MergedRecord(sis_id, values, moments, (record,))


def _merged(group: list[RosterRecord]) -> MergedRecord:
    winners = [
        max(((r.moment, r.values[i]) for r in group if r.values[i] is not None), default=_NOTHING)
        for i in range(len(group[0].values))
    ]
    moments, values = zip(*winners, strict=True)
    return MergedRecord(group[0].sis_id, values, moments, tuple(group))


_NOTHING: Final[tuple[Any, Any]] = (None, None)


def is_superseded(
    record: RosterRecord, moments: Sequence[int | None], stored: Sequence[Any]
) -> bool:
    """Return whether later records name all fields of a record.

    `moments` and `stored` are those of the fields once the record was written.
    """
    named = [
        (record.moment, value) < (moment, after)
        for value, moment, after in zip(record.values, moments, stored, strict=True)
        if value is not None
    ]
    return bool(named) and all(named)


def moments_of_records(batch: datetime, number: int, count: int, now: datetime) -> Sequence[int]:
    """Return the moments of the records of a chunk that count one after another.

    `batch` is the moment of the batch, and `number` that of the chunk. All moments are in
    microseconds since 1970. A client whose numbers are too large, such as dates, must not win
    against everyone else for days.
    """
    first = to_microseconds(batch) + number * MAX_CHUNK_RECORDS
    latest = to_microseconds(now) + round(MAX_AHEAD * 1_000_000)
    moments = range(first, first + count)
    return moments if moments.stop <= latest else [min(moment, latest) for moment in moments]


def to_microseconds(moment: datetime) -> int:
    """Return a moment in microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(moment: int) -> datetime:
    """Return the moment that is this number of microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=moment)


def values_reader(kind: Kind) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads the SIS id and the values of a parsed record."""
    return attrgetter("sis_id", *ROSTER_FIELDS[kind])
