"""Define what is exchanged about the owners of enrollments."""

from typing import NamedTuple


class Owner(NamedTuple):
    """What owns the enrollments that a request opens."""

    data_set: int
    """The key of the data set."""
    adopting_plan: str | None = None
    """The plan for which it also takes the enrollments that it names and that have no owner."""
