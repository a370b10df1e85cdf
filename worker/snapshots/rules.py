"""Define when a snapshot is held: the default rules, and those that an operator sets."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]


class HoldRules(BaseModel):
    """When a snapshot of a data set waits for a decision instead of being applied.

    Percentages are of the enrollments that the data set owned before.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    always: bool = False
    """Hold every snapshot."""
    drops_percent: Percent = 5.0
    drops_rows: Count = 10
    """Hold a snapshot that drops more than this percentage and more than so many enrollments.

    It is also held if it drops at least two, and more than half or more than `drops_percent`,
    whichever is more."""
    course_percent: Percent = 50.0
    course_students: Count = 10
    """Hold a snapshot if a course with at least so many students loses more than this percentage
    of them."""
    not_owned_percent: Percent = 50.0
    """Hold a snapshot if more than this percentage of the enrollments that it names exist and
    belong to no data set, or to other data sets."""
    refused_lines: bool = True
    """Hold a snapshot if a refused line may be about an enrollment that would be dropped."""
    no_enrollments: bool = True
    """Hold a snapshot that enrolls no student."""


def read_rules(stored: dict[str, Any] | None) -> HoldRules:
    """Return the rules of a data set as they are stored; the default ones for None."""
    return HoldRules.model_validate(stored or {})
