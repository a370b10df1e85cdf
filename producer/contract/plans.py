"""Define what a worker reports about a plan: its state, what it would change, and what to do."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from producer.contract.batches import Books, RefusalGroup
from producer.contract.plan_requests import PlanPurpose
from producer.fields import RequestId
from producer.schemas import ContractModel, Kind

Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of everything that a plan's report shows: a decision names what was shown."""

MAX_COURSES_SHOWN: Final = 1_000
"""The most courses whose drops a plan lists; the CSV file of its drops has all of them."""


class PlanState(StrEnum):
    """The state of a plan. `staged` leads to `planned` (a dry run), to `held`, or to `approved`."""

    UNKNOWN = "unknown"
    """No chunk of a plan with this id has arrived."""
    STAGED = "staged"
    """Its chunks are being stored, or wait to be planned. Nothing is applied."""
    PLANNED = "planned"
    """A dry run that has ended: its report can be read, and nothing is ever applied."""
    HELD = "held"
    """It waits for a decision, because of its `reasons`. Nothing is applied."""
    APPROVED = "approved"
    """It may be applied, and waits for a worker."""
    APPLYING = "applying"
    """Its chunks are being applied."""
    SWEEPING = "sweeping"
    """All of its chunks were applied, and its planned drops are being applied."""
    DONE = "done"
    """All of it was applied."""
    DISCARDED = "discarded"
    """It will never be applied; `advice` says why."""


class Decision(StrEnum):
    """What is decided about a plan that is held."""

    APPROVE = "approve"
    DISCARD = "discard"


class HoldReason(StrEnum):
    """Why a plan waits for a decision instead of being applied."""

    ALWAYS = "always"
    """Its submitter, or a rule of its data set, says so."""
    MANY_DROPS = "many_drops"
    """It drops more than a share of the rows that its data set owned before."""
    MOST_DROPS = "most_drops"
    """It drops more than half of the rows that its data set owned before."""
    COURSE_LOSES_MOST = "course_loses_most"
    """A course loses more than half of the students that its data set owned."""
    NO_ENROLLMENTS = "no_enrollments"
    """The file names no enrollment at all."""
    REFUSED_LINES = "refused_lines"
    """Lines were refused that may be about enrollments to be dropped."""
    NOT_OWNED = "not_owned"
    """More than half of the named enrollments exist and belong to no data set."""
    OTHER_DATA_SET = "other_data_set"
    """More than half of the named enrollments exist and belong to other data sets: the file may
    have been submitted under the name of the wrong one."""


class Reason(ContractModel):
    """A reason to hold a plan, in a form for programs and in one for people."""

    code: HoldReason = Field(description="The reason.")
    message: str = Field(description="A sentence for people, with its numbers and what to do.")


class PlannedBatch(ContractModel):
    """What a member of a plan would do, or did: the counts that its batch has when it is done."""

    batch_id: str = Field(description="The id of the batch.")
    kind: Kind = Field(description="The kind of its records.")
    books: Books = Field(default=Books(), description="Its counts, in rows.")
    requests: int = Field(default=0, description="The number of its requests or roster records.")
    requests_rejected: int = Field(
        default=0, description="How many of these would be refused as a whole."
    )
    refusals: tuple[RefusalGroup, ...] = Field(
        default=(), description="The refusals, grouped by cause."
    )


class CourseDrops(ContractModel):
    """The planned drops of a course."""

    course_id: int = Field(description="The key of the course.")
    sis_id: str = Field(description="The SIS id of the course.")
    title: str | None = Field(default=None, description="The title of the course.")
    owned: int = Field(description="How many of its students the data set owned before.")
    drops: int = Field(description="How many of these would be dropped.")
    dropped: int | None = Field(
        default=None, description="How many of these were dropped; null until the plan is done."
    )


class AbsentRows(ContractModel):
    """The rows that a data set owned and that its snapshot does not name.

    They are no lines of the file, so the counts of its batch do not have them. `absent` is the sum
    of all the others.
    """

    absent: int = Field(default=0, description="All of these rows.")
    dropped: int = Field(default=0, description="Those that are dropped.")
    kept_newer: int = Field(
        default=0, description="Those that a request of the same or a later moment opened or named."
    )
    passed_on: int = Field(
        default=0, description="Those that another data set names, too; it owns them now."
    )
    kept_refused: int = Field(default=0, description="Those that a refused line names.")
    not_enrolled: int = Field(
        default=0, description="Those that another request had dropped when it was their turn."
    )


class PlanStatus(ContractModel):
    """The state of a plan, and its report."""

    plan_id: str = Field(description="The id of the plan: that of its last member.")
    state: PlanState = Field(description="The state of the plan.")
    advice: str | None = Field(default=None, description="What to do, or why it was discarded.")
    purpose: PlanPurpose | None = Field(default=None, description="What the plan was made for.")
    snapshot: bool = Field(default=False, description="Whether the file is the whole truth.")
    data_set: str | None = Field(default=None, description="The data set that it belongs to.")
    file_name: str | None = Field(default=None, description="The name of its file.")
    submitter: str | None = Field(default=None, description="Who submitted it.")
    reasons: tuple[Reason, ...] = Field(default=(), description="Why it is or was held.")
    digest: str | None = Field(
        default=None, description="The digest of the report, which a decision names."
    )
    batches: tuple[PlannedBatch, ...] = Field(
        default=(),
        description="What each of its batches would do. What it did is in its own status.",
    )
    owned_before: int = Field(
        default=0, description="How many enrollments the data set owned before."
    )
    absent: AbsentRows = Field(
        default=AbsentRows(), description="What would become of enrollments that are not named."
    )
    courses: tuple[CourseDrops, ...] = Field(
        default=(), description="The courses with planned drops, the one with the most first."
    )
    applied: AbsentRows | None = Field(
        default=None,
        description="What became of enrollments that are not named; null until that is known.",
    )
    differences: tuple[str, ...] = Field(
        default=(), description="What differs between the plan and what was done, and why."
    )
    submitted_at: datetime | None = Field(default=None, description="Its moment.")
    planned_at: datetime | None = Field(
        default=None, description="When the report was true; null until it was made."
    )
    decided_at: datetime | None = Field(default=None, description="When it was decided about.")
    expires_at: datetime | None = Field(
        default=None, description="When it is discarded unless somebody decides; null if never."
    )
    finished_at: datetime | None = Field(default=None, description="When all of it was applied.")
    undone_by: str | None = Field(
        default=None,
        description="The batch that undid its last batch, or is about to; null if that was not"
        " undone, or if the undo was itself undone.",
    )
    undone_at: datetime | None = Field(default=None, description="When that undo began.")


class PlannedDrop(ContractModel):
    """An enrollment that a plan drops because the snapshot does not name it."""

    student_id: int = Field(description="The key of the student.")
    student_sis_id: str = Field(description="The SIS id of the student.")
    student_name: str | None = Field(default=None, description="The name of the student.")
    course_id: int = Field(description="The key of the course.")
    course_sis_id: str = Field(description="The SIS id of the course.")
    course_title: str | None = Field(default=None, description="The title of the course.")
    outcome: str | None = Field(
        default=None,
        description="What became of it: `dropped`, `kept_newer`, `passed_on` or `not_enrolled`;"
        " null until it is applied.",
    )


class PlannedDropsPage(ContractModel):
    """A page of the planned drops of a plan, by the keys of student and course."""

    state: PlanState | None = Field(
        default=None,
        description="The state of the plan; null from a worker of an earlier version.",
    )
    planned_at: datetime | None = Field(
        default=None,
        description="When the report was true; null if there is none yet, or never was, so that it"
        " is not known what the plan drops.",
    )
    drops: tuple[PlannedDrop, ...] = Field(default=(), description="The drops.")
    next: tuple[int, int] | None = Field(
        default=None,
        description="The keys of the last one: send them as `after`. Null if nothing follows.",
    )


class DecisionMessage(ContractModel):
    """A decision about a plan, the argument of the task on the queue of decisions."""

    plan_id: RequestId = Field(description="The plan.")
    decision: Decision = Field(description="`approve` or `discard`.")
    digest: Digest = Field(description="The digest of the report that was shown.")


FINAL_STATES: Final = (PlanState.PLANNED, PlanState.DONE, PlanState.DISCARDED)
"""The states that a plan never leaves."""

UNKNOWN_PLAN: Final = (
    "No chunk of a plan with this id has arrived. Check the id: it is that of the last batch of the"
    " submission."
)
"""The advice of a plan that is unknown."""
