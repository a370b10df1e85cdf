"""Decide from a submitter's options whether a submission is planned, and what its chunks say."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.explain import parse_record
from producer.contract.plan_requests import ALWAYS, Hold, PlanMember, PlanPurpose, PlanRequest
from producer.errors import InvalidRequest
from producer.fields import data_set_name_problem
from producer.publishing.batches import SubmittedBatch
from producer.publishing.chunking import Membership
from producer.schemas import Code, EnrollmentProblem, Kind

_HOLD: TypeAdapter[str] = TypeAdapter(Hold)


class OptionProblem(NamedTuple):
    """What is wrong with an option, which is named as in Python.

    The message does not name options, because the command line writes them differently.
    """

    option: str
    message: str


class PlanOptions(NamedTuple):
    """What a submitter says about the data set of a submission, and about planning it.

    `snapshot` is the name of the data set of which the submission is the whole truth; `data_set`
    is that of any other submission. A submission is planned if it is a dry run or a snapshot, if
    `hold` is given, or if `planned` says so.
    """

    data_set: str | None = None
    dry_run: bool = False
    snapshot: str | None = None
    hold: str | None = None
    adopt: bool = False
    planned: bool = False

    @property
    def is_planned(self) -> bool:
        """Return whether the submission is planned before anything of it is applied."""
        has_rules = self.snapshot is not None or self.hold is not None
        return self.dry_run or self.planned or has_rules

    @property
    def data_set_name(self) -> str | None:
        """Return the name of the data set that its enrollments belong to."""
        return self.data_set if self.snapshot is None else self.snapshot

    def problem(self) -> OptionProblem | None:
        """Return the first option that makes no sense, or None."""
        return next(self._problems(), None)

    def _problems(self) -> Iterator[OptionProblem]:
        for option, name in (("data_set", self.data_set), ("snapshot", self.snapshot)):
            problem = None if name is None else data_set_name_problem(name)
            if problem is not None:
                yield OptionProblem(option, problem)
        if self.snapshot is not None and self.data_set not in (None, self.snapshot):
            yield OptionProblem(
                "data_set",
                "a snapshot belongs to the data set that it is the whole truth of; name only one",
            )
        if self.adopt and self.snapshot is None:
            yield OptionProblem(
                "adopt",
                "only a snapshot can adopt enrollments without an owner; name its data set",
            )
        if self.hold is not None:
            yield from self._hold_problems(self.hold)

    def _hold_problems(self, hold: str) -> Iterator[OptionProblem]:
        if not _fits(_HOLD, hold):
            message = f"{str(hold)[:40]!a} is not a rule; write always, or a percentage such as 2%"
            yield OptionProblem("hold", message)
        if self.dry_run:
            yield OptionProblem(
                "hold",
                "a dry run is never applied, so there is nothing to hold. To look first and decide"
                " afterwards, hold the submission always, and leave out the dry run",
            )
        if self.snapshot is None and hold != ALWAYS:
            yield OptionProblem(
                "hold",
                "a percentage is one of the enrollments that a snapshot drops; without a snapshot,"
                " write always",
            )

    def check(self) -> None:
        """Raise InvalidRequest if the options make no sense together."""
        if (found := self.problem()) is not None:
            raise _invalid(*found)

    def check_members(self, kinds: Sequence[Kind]) -> None:
        """Raise InvalidRequest unless the options fit a submission of batches of these kinds."""
        if Kind.ENROLLMENTS in kinds:
            return
        if self.snapshot is not None:
            held = " and ".join(dict.fromkeys(kinds)) or "nothing"
            raise _invalid(
                "snapshot",
                f"a snapshot needs enrollments, but this submission holds only {held}. Submit the"
                " file of enrollments, or these without a snapshot",
            )
        if self.data_set is not None:
            raise _invalid(
                "data_set", "only enrollments belong to a data set, but there are none to submit"
            )

    def request_of(self, members: Sequence[tuple[str, Kind]]) -> PlanRequest | None:
        """Return what the chunks say of their plan; None if it is no planned submission.

        `members` are the ids and kinds of its batches, in the order in which they are applied; the
        plan has the id of the last one. Raises InvalidRequest if there are too many.
        """
        if not self.is_planned:
            return None
        given = {
            "id": members[-1][0],
            "members": [PlanMember(batch_id=own_id, kind=kind) for own_id, kind in members],
            "purpose": PlanPurpose.REPORT if self.dry_run else PlanPurpose.APPLY,
            "snapshot": self.snapshot is not None,
            "adopt": self.adopt,
            "hold": self.hold,
        }
        request, problems = parse_record(PlanRequest, given)
        if request is None:
            raise InvalidRequest(problems)
        return request

    def membership(self, kind: Kind, plan: PlanRequest | None) -> Membership:
        """Return what the chunks of a batch of this kind say of their data set and plan."""
        return Membership(self.data_set_name if kind is Kind.ENROLLMENTS else None, plan)


NO_PLAN = PlanOptions()
"""A submission without a data set, which is applied without a plan."""


def _fits(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def _invalid(field: str, message: str) -> InvalidRequest:
    problem = EnrollmentProblem(
        code=Code.INVALID_REQUEST, message=f"{field}: {message}", field=field
    )
    return InvalidRequest((problem,))


def checked_options(*given: Any) -> PlanOptions:
    """Return options, given in their order. Raises InvalidRequest if they make no sense."""
    options = PlanOptions(*given)
    options.check()
    return options


def own_batch_id(batch_id: str | None, plan: Any) -> str | None:
    """Return the id of a batch, which may be that of its plan.

    Raises InvalidRequest unless what was given as a plan is one.
    """
    if plan is None:
        return batch_id
    if not isinstance(plan, PlanRequest):
        raise _invalid(
            "plan",
            f"must be a PlanRequest, not {str(plan)[:40]!a}, which is a {type(plan).__name__}; make"
            " one with `producer.PlanRequest`",
        )
    return plan.id if batch_id is None else batch_id


def checked_membership(
    batch: SubmittedBatch, data_set: str | None, plan: PlanRequest | None
) -> Membership:
    """Return what the chunks of a batch say. Raises InvalidRequest if it does not fit the batch."""
    PlanOptions(data_set=data_set).check()
    if data_set is not None and batch.kind is not Kind.ENROLLMENTS:
        raise _invalid("data_set", f"only enrollments belong to a data set, not {batch.kind}")
    if plan is not None:
        if (batch.batch_id, batch.kind) not in [(m.batch_id, m.kind) for m in plan.members]:
            raise _invalid(
                "plan",
                f"it has no member with the batch id {batch.batch_id[:40]!a} and the kind"
                f" {batch.kind}; name every batch of the submission as a member",
            )
        if plan.snapshot and data_set is None and batch.kind is Kind.ENROLLMENTS:
            raise _invalid("data_set", "a snapshot needs the name of its data set")
    return Membership(data_set, plan)
