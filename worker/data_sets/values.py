"""Define what is exchanged about the owners of enrollments."""

from typing import NamedTuple


class Owner(NamedTuple):
    """What owns the enrollments that a request opens."""

    data_set: int
    """The key of the data set."""
    adopts: bool = False
    """True if it also takes the enrollments that it names and that have no owner."""
