"""Define the arguments and results of the lookups."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints
from pydantic.functional_validators import AfterValidator

from producer.contract.batches import AppliedChunks, BatchPage, BatchStatus, RefusedRecord
from producer.contract.findings import Finding
from producer.contract.history import CourseRoll, CourseRolls, StudentHistory
from producer.contract.identity import DatabaseIdentity
from producer.contract.plans import PlannedDropsPage, PlanStatus
from producer.contract.routing import TaskName
from producer.contract.searching import FoundCourses, FoundStudents
from producer.contract.undos import BatchUndo
from producer.fields import (
    MAX_KEY,
    MAX_LOOKUP,
    MAX_STORED_ID,
    MAX_TEXT,
    NO_NUL,
    Identifier,
    StoredId,
)
from producer.schemas import (
    ContractModel,
    RequestStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)

MAX_RESULT_ID: Final = MAX_STORED_ID + 24
"""The most characters of a result's id: the id of a line is longer than that of its batch."""


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
    detail: str = Field(default="", description="More about this state, for people.")
    identity: DatabaseIdentity | None = Field(
        default=None,
        description="The identity of the worker's database; null if it could not be read.",
    )
    findings: tuple[Finding, ...] = Field(
        default=(), description="What the worker found when it checked itself and its database."
    )


RequestIds = Annotated[list[StoredId], Field(max_length=MAX_LOOKUP)]
Identifiers = Annotated[list[Identifier], Field(max_length=MAX_LOOKUP)]
Number = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Numbers = Annotated[list[Number], Field(max_length=MAX_LOOKUP)]
Limit = Annotated[int, Field(strict=True, ge=1, le=MAX_LOOKUP)]

StudentCursor = Annotated[int, Field(strict=True, ge=0, le=MAX_KEY)]
"""The key of the last student of a page; 0 stands for the first page."""

PairCursor = tuple[StudentCursor, StudentCursor]
"""The keys of the student and the course of the last planned drop of a page."""

RollsCursor = tuple[StudentCursor, StudentCursor]
"""The keys of the last student and course that a page of rolls has looked at."""


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be in the years 1 to 9999 in UTC") from None


ResultCursor = tuple[
    Annotated[datetime, AfterValidator(_in_utc)],
    Annotated[str, StringConstraints(max_length=MAX_RESULT_ID, pattern=NO_NUL)],
]
"""The `completed_at` and `request_id` of a result; a page holds only results older than this."""

SubmitterName = Annotated[
    str,
    StringConstraints(
        strict=True, strip_whitespace=True, min_length=1, max_length=MAX_TEXT, pattern=NO_NUL
    ),
]
"""The submitter of batches to look up, in the form in which it is stored with a batch."""

RESULT_TYPES: Final[Mapping[TaskName, Any]] = {
    TaskName.ENROLL: StudentEnrollmentResponse,
    TaskName.STATUS: list[RequestStatus],
    TaskName.BATCH: list[BatchStatus],
    TaskName.CHUNKS: AppliedChunks,
    TaskName.REFUSALS: list[RefusedRecord],
    TaskName.RESULTS: list[list[StudentEnrollmentResponse]],
    TaskName.STUDENT: list[StudentResponse | None],
    TaskName.HISTORY: StudentHistory,
    TaskName.ROLL: CourseRoll | None,
    TaskName.ROLLS: CourseRolls,
    TaskName.FIND_STUDENTS: FoundStudents,
    TaskName.FIND_COURSES: FoundCourses,
    TaskName.HEALTH: WorkerHealth,
    TaskName.RECENT_BATCHES: list[BatchStatus] | BatchPage,
    TaskName.PLAN: PlanStatus,
    TaskName.PLANNED_DROPS: PlannedDropsPage,
    TaskName.DECIDE: PlanStatus,
    TaskName.REHEARSE_UNDO: BatchUndo,
    TaskName.UNDO: BatchUndo,
}
"""The type of each task's result; lists are in the order of the lookup's ids, or newest first."""
