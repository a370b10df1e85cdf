"""Turn what a caller submits into the records of a batch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from producer.contract.chunks import RefusedLine
from producer.publishing.chunking import Block, LineStream, SourceRecord
from producer.publishing.course_lists import with_course_lists
from producer.schemas import ContractModel

Record = ContractModel | Mapping[str, Any] | SourceRecord | RefusedLine


def plain_fields(message: ContractModel) -> dict[str, Any]:
    """Return a record as JSON, without the fields that have their default value."""
    return message.model_dump(mode="json", exclude_defaults=True)


def source_records(records: Iterable[Record]) -> Iterator[Block]:
    """Number the records that were not read from the lines of a file."""
    if isinstance(records, LineStream):
        yield from records.blocks
        return
    for number, record in enumerate(records, 1):
        if isinstance(record, SourceRecord) or isinstance(record, RefusedLine):  # noqa: SIM101 - faster
            yield record
        else:
            plain = plain_fields(record) if isinstance(record, ContractModel) else record
            yield SourceRecord(
                with_course_lists(plain) if isinstance(plain, Mapping) else plain, [number]
            )
