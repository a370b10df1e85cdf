"""Describe the parameters of the routes about plans, and read what an upload says of its plan."""

from typing import Annotated, Any

from fastapi import Body, Depends, Header, Path, Query
from pydantic import BeforeValidator

from producer.contract.explain import parse_record
from producer.contract.plan_requests import PlanPurpose
from producer.contract.plans import Decision, Digest
from producer.fields import MAX_LOOKUP
from producer.publishing.planning import PlanOptions
from producer.schemas import ContractModel

PlanIdInPath = Annotated[str, Path(description="The id of the plan: that of its last batch.")]
DropLimit = Annotated[
    int, Query(ge=1, le=MAX_LOOKUP, description="The largest number of drops on a page.")
]
DropCursor = Annotated[
    str | None, Query(description="`next` from the previous page; without it, the first page.")
]
AcceptedDrops = Annotated[
    str,
    Header(
        alias="accept",
        description="`text/csv` returns a file of all drops, in which no cell runs as a formula;"
        " else a page of them.",
    ),
]

_Plan = Annotated[
    PlanPurpose | None,
    Query(
        description="`report` only reports what the submission would do. With `apply` it is planned"
        " first, and then applied, unless there is a reason to hold it; `snapshot` and `hold` imply"
        " that."
    ),
]
_Snapshot = Annotated[
    str | None,
    Query(
        max_length=1_000,
        description="The name of the data set of which the file is the whole truth: enrollments of"
        " the data set that it does not name are dropped. The token also needs the scope `drop`,"
        " except for a report.",
    ),
]
_Hold = Annotated[
    str | None,
    Query(
        max_length=40,
        description="When the submission waits for a decision: `always`, or for a snapshot from a"
        " share of drops on, for example `2%` (written `2%25`).",
    ),
]
_Adopt = Annotated[
    bool,
    Query(
        description="With `true`, enrollments without an owner that a snapshot names pass to its"
        " data set."
    ),
]
_DataSet = Annotated[
    str | None,
    Query(
        max_length=1_000,
        description="The data set that the enrollments of the file belong to, without a snapshot.",
    ),
]


async def _options(
    plan: _Plan = None,
    snapshot: _Snapshot = None,
    hold: _Hold = None,
    data_set: _DataSet = None,
    *,
    adopt: _Adopt = False,
) -> PlanOptions:
    """Return what the parameters say. Raises InvalidRequest if they make no sense together."""
    options = PlanOptions(
        data_set, plan is PlanPurpose.REPORT, snapshot, hold, adopt, planned=plan is not None
    )
    options.check()
    return options


PlanChoices = Annotated[PlanOptions, Depends(_options)]
"""What the caller says about the data set and the plan of an upload."""


class DecisionBody(ContractModel):
    """A decision about a plan that is held."""

    decision: Decision
    digest: Digest


def _parsed(body: Any) -> Any:
    """Return the decision in a body of JSON. Raises ValueError, which is explained later."""
    if not isinstance(body, dict):
        return body
    decision, _ = parse_record(DecisionBody, body)
    if decision is None:
        raise ValueError("breaks the contract")
    return decision


GivenDecision = Annotated[
    DecisionBody,
    BeforeValidator(_parsed),
    Body(examples=[{"decision": "approve", "digest": "9f86d081" * 8}]),
]
