"""Define what the chunks of a planned submission say of their plan."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from producer.fields import RequestId
from producer.schemas import ContractModel, Kind

MAX_MEMBERS: Final = 10
"""The most batches that one plan may have: a package has rosters and enrollments."""


class PlanPurpose(StrEnum):
    """What a plan is made for."""

    REPORT = "report"
    """A dry run: the plan is only shown, and nothing is ever applied."""
    APPLY = "apply"
    """The plan is applied at once, unless there is a reason to hold it."""


ALWAYS: Final = "always"
"""The value of `hold` with which a plan waits for a decision whatever it changes."""

Hold = Annotated[str, StringConstraints(pattern=r"^(always|[0-9]{1,2}(\.[0-9]{1,2})?%)$")]
"""When a submitter wants a plan to be held: `always`, or from which share of planned drops on."""


class PlanMember(ContractModel):
    """A batch of a planned submission."""

    batch_id: RequestId = Field(description="The id of the batch.")
    kind: Kind = Field(description="The kind of its records.")


class PlanRequest(ContractModel):
    """The plan that a chunk belongs to. All chunks of all members of a plan say the same."""

    id: RequestId = Field(description="The id of the plan: that of its last member.")
    members: Annotated[tuple[PlanMember, ...], Field(min_length=1, max_length=MAX_MEMBERS)] = Field(
        description="All batches of the submission, in the order in which they are applied: rosters"
        " come first."
    )
    purpose: PlanPurpose = Field(
        description="`report` for a dry run; `apply` if the plan may be applied."
    )
    snapshot: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="True if the enrollments are the whole truth of their data set: those that it"
        " owns and that are not named are dropped.",
    )
    adopt: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="True if enrollments that no data set owns pass to this one if they are named;"
        " only with `snapshot`.",
    )
    hold: Hold | None = Field(
        default=None,
        description="When the plan waits for a decision, besides the rules of its data set:"
        " `always`, or for a snapshot from this percentage of planned drops on, for example `2%`."
        " A dry run is never held.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        ids = [member.batch_id for member in self.members]
        if len(set(ids)) < len(ids):
            raise ValueError("members must be different batches")
        if ids[-1] != self.id:
            raise ValueError("the id of a plan must be that of its last member")
        if self.snapshot and self.members[-1].kind is not Kind.ENROLLMENTS:
            raise ValueError("the last member of a snapshot must hold enrollments")
        kinds = [member.kind for member in self.members]
        if Kind.ENROLLMENTS in kinds[: -kinds.count(Kind.ENROLLMENTS)]:
            raise ValueError("members are applied in their order: name rosters before enrollments")
        if self.adopt and not self.snapshot:
            raise ValueError("adopt is only for snapshots; leave it out")
        return self

    @model_validator(mode="after")
    def _may_be_held(self) -> Self:
        if self.hold is None:
            return self
        if self.purpose is PlanPurpose.REPORT:
            raise ValueError("a dry run is never held: leave out hold, or set purpose to apply")
        if self.hold != ALWAYS and not self.snapshot:
            raise ValueError("hold can be a percentage only with snapshot; write always without it")
        return self
