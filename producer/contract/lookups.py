"""Define the arguments and results of the lookups."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from producer.contract.batches import AppliedChunks, BatchStatus, RefusedRecord
from producer.contract.routing import TaskName
from producer.schemas import (
    MAX_LOOKUP,
    ContractModel,
    Identifier,
    RequestId,
    RequestStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)


class DatabaseState(StrEnum):
    """How a worker finds its database."""

    READY = "ready"
    """It answers, and has all migrations."""
    AWAY = "away"
    """It does not answer."""
    OUTDATED = "outdated"
    """It lacks migrations that this worker needs."""


class WorkerHealth(ContractModel):
    """What a worker says of itself."""

    version: str = Field(description="Its version.")
    now: datetime = Field(description="What its clock says.")
    database: DatabaseState = Field(description="How it finds its database.")
    detail: str = Field("", description="The same in words, for a person.")


RequestIds = Annotated[list[RequestId], Field(max_length=MAX_LOOKUP)]
Identifiers = Annotated[list[Identifier], Field(max_length=MAX_LOOKUP)]
Numbers = Annotated[
    list[Annotated[int, Field(strict=True, ge=0, lt=2**63)]], Field(max_length=MAX_LOOKUP)
]
Limit = Annotated[int, Field(strict=True, ge=1, le=MAX_LOOKUP)]
ResultCursor = tuple[datetime, str]
"""`completed_at` and `request_id` of an outcome: only older ones are asked for."""

ANSWERS: Final[Mapping[TaskName, Any]] = {
    TaskName.ENROLL: StudentEnrollmentResponse,
    TaskName.STATUS: list[RequestStatus],
    TaskName.BATCH: list[BatchStatus],
    TaskName.CHUNKS: AppliedChunks,
    TaskName.REFUSALS: list[RefusedRecord],
    TaskName.RESULTS: list[list[StudentEnrollmentResponse]],
    TaskName.STUDENT: list[StudentResponse | None],
    TaskName.HEALTH: WorkerHealth,
}
"""What is stored as the result of each task that has one, in the order of what was asked."""
