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
    """The state of the database, as a worker sees it."""

    READY = "ready"
    """The database is reachable and has all migrations."""
    AWAY = "away"
    """The database is unavailable."""
    OUTDATED = "outdated"
    """The database does not have the migrations of this worker; it is older or newer."""

    @property
    def shown(self) -> str:
        """Return the word that messages use for this state."""
        return "unavailable" if self is DatabaseState.AWAY else self.value


class WorkerHealth(ContractModel):
    """A worker's report on itself and its database."""

    version: str = Field(description="The worker's version.")
    now: datetime = Field(description="The time on the worker's clock.")
    database: DatabaseState = Field(description="The state of the database, as the worker sees it.")
    detail: str = Field("", description="More about this state, for people.")


RequestIds = Annotated[list[RequestId], Field(max_length=MAX_LOOKUP)]
Identifiers = Annotated[list[Identifier], Field(max_length=MAX_LOOKUP)]
Numbers = Annotated[
    list[Annotated[int, Field(strict=True, ge=0, lt=2**63)]], Field(max_length=MAX_LOOKUP)
]
Limit = Annotated[int, Field(strict=True, ge=1, le=MAX_LOOKUP)]
ResultCursor = tuple[datetime, str]
"""The `completed_at` and `request_id` of a result; a page holds only results older than this."""

RESULT_TYPES: Final[Mapping[TaskName, Any]] = {
    TaskName.ENROLL: StudentEnrollmentResponse,
    TaskName.STATUS: list[RequestStatus],
    TaskName.BATCH: list[BatchStatus],
    TaskName.CHUNKS: AppliedChunks,
    TaskName.REFUSALS: list[RefusedRecord],
    TaskName.RESULTS: list[list[StudentEnrollmentResponse]],
    TaskName.STUDENT: list[StudentResponse | None],
    TaskName.HEALTH: WorkerHealth,
}
"""The type of each task's result; lists are in the order of the ids in the lookup."""
