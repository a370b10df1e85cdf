"""Hold the students and the courses in memory, as a worker's database does."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from producer.contract.rosters import MergedRecord, is_superseded


class RosterPart:
    """The students, or the courses; a key is a position in the order in which they came, from 1."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._named: list[dict[str, tuple[int, Any]]] = []
        """The value of each field, with the moment of the record that last named it."""
        self._keys: dict[str, int] = {}

    def key_of(self, identifier: int | str | None) -> int | None:
        """Return the key that belongs to a key or SIS id; None if there is none."""
        if isinstance(identifier, int):
            return identifier if 1 <= identifier <= len(self._records) else None
        return None if identifier is None else self._keys.get(identifier)

    def fields_of(self, key: int) -> Mapping[str, Any]:
        """Return the SIS id and the other fields that upstream sent."""
        return self._records[key - 1]

    def all_fields(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the key and the fields of each of them, by key."""
        yield from enumerate(self._records, 1)

    def upsert(self, merged: MergedRecord, fields: Sequence[str]) -> Counter[str]:
        """Write merged records with these fields; return how many did what, as in the counts."""
        key = self._keys.setdefault(merged.sis_id, len(self._records) + 1)
        if is_new := key > len(self._records):
            self._records.append({"sis_id": merged.sis_id})
            self._named.append({})
        named, before = self._named[key - 1], dict(self._records[key - 1])
        for name, moment, value in zip(fields, merged.moments, merged.values, strict=True):
            if moment is not None and (moment, value) >= named.get(name, (moment, value)):
                named[name] = (moment, value)
                self._records[key - 1][name] = value
        after = [named.get(name, (None, None)) for name in fields]
        moments, values = [moment for moment, _ in after], [value for _, value in after]
        upserted = int(is_new or before != self._records[key - 1])
        superseded = sum(is_superseded(record, moments, values) for record in merged.records)
        unchanged = len(merged.records) - upserted - superseded
        return Counter(upserted=upserted, superseded=superseded, unchanged=unchanged)
