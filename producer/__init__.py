"""Publish enrollment requests and read their results: the part that upstream systems install.

What most programs need can be imported from here. A name is loaded when it is first used, so that
`import producer` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.aio.client import AsyncEnrollmentClient
    from producer.client import EnrollmentClient
    from producer.contract.batches import BatchState, BatchStatus, RefusedRecord
    from producer.contract.history import (
        Change,
        CourseRoll,
        CourseRolls,
        EnrolledStudent,
        HistoryEntry,
        StudentHistory,
    )
    from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
    from producer.contract.plans import Decision, PlannedDrop, PlanState, PlanStatus
    from producer.contract.undos import BatchUndo, UndoState
    from producer.errors import (
        AnswerNotUnderstood,
        BatchCannotFinish,
        BatchConflict,
        BatchNotDone,
        BrokerNotFound,
        BrokerUnavailable,
        ClientClosed,
        DecisionRefused,
        DropsNotKnown,
        EnrollmentError,
        InvalidRequest,
        LookupFailed,
        NoWorkerAnswered,
        SubmissionLost,
        UndoRefused,
        UnreadableFile,
    )
    from producer.files.submitted import SubmittedFile
    from producer.publishing.batches import SubmittedBatch
    from producer.schemas import (
        Code,
        CourseRecord,
        EnrolledCourse,
        EnrollmentProblem,
        Kind,
        RequestState,
        RequestStatus,
        ResultStatus,
        StudentEnrollmentRequest,
        StudentEnrollmentResponse,
        StudentRecord,
        StudentResponse,
    )

__all__ = [
    "AnswerNotUnderstood",
    "AsyncEnrollmentClient",
    "BatchCannotFinish",
    "BatchConflict",
    "BatchNotDone",
    "BatchState",
    "BatchStatus",
    "BatchUndo",
    "BrokerNotFound",
    "BrokerUnavailable",
    "Change",
    "ClientClosed",
    "Code",
    "CourseRecord",
    "CourseRoll",
    "CourseRolls",
    "Decision",
    "DecisionRefused",
    "DropsNotKnown",
    "EnrolledCourse",
    "EnrolledStudent",
    "EnrollmentClient",
    "EnrollmentError",
    "EnrollmentProblem",
    "HistoryEntry",
    "InvalidRequest",
    "Kind",
    "LookupFailed",
    "NoWorkerAnswered",
    "PlanMember",
    "PlanPurpose",
    "PlanRequest",
    "PlanState",
    "PlanStatus",
    "PlannedDrop",
    "RefusedRecord",
    "RequestState",
    "RequestStatus",
    "ResultStatus",
    "StudentEnrollmentRequest",
    "StudentEnrollmentResponse",
    "StudentHistory",
    "StudentRecord",
    "StudentResponse",
    "SubmissionLost",
    "SubmittedBatch",
    "SubmittedFile",
    "UndoRefused",
    "UndoState",
    "UnreadableFile",
]

_MODULES = {
    "AsyncEnrollmentClient": "aio.client",
    "EnrollmentClient": "client",
    "BatchState": "contract.batches",
    "BatchStatus": "contract.batches",
    "RefusedRecord": "contract.batches",
    "Change": "contract.history",
    "CourseRoll": "contract.history",
    "CourseRolls": "contract.history",
    "EnrolledStudent": "contract.history",
    "HistoryEntry": "contract.history",
    "StudentHistory": "contract.history",
    "PlanMember": "contract.plan_requests",
    "PlanPurpose": "contract.plan_requests",
    "PlanRequest": "contract.plan_requests",
    "Decision": "contract.plans",
    "PlanState": "contract.plans",
    "PlanStatus": "contract.plans",
    "PlannedDrop": "contract.plans",
    "BatchUndo": "contract.undos",
    "UndoState": "contract.undos",
    "SubmittedFile": "files.submitted",
    "SubmittedBatch": "publishing.batches",
    "Code": "schemas",
    "CourseRecord": "schemas",
    "EnrolledCourse": "schemas",
    "EnrollmentProblem": "schemas",
    "Kind": "schemas",
    "RequestState": "schemas",
    "RequestStatus": "schemas",
    "ResultStatus": "schemas",
    "StudentEnrollmentRequest": "schemas",
    "StudentEnrollmentResponse": "schemas",
    "StudentRecord": "schemas",
    "StudentResponse": "schemas",
}
"""The module of each name; all others are errors."""


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` when it is first used. Raises AttributeError."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the names for completion, also those that are not loaded yet."""
    return sorted({*globals(), *__all__})
