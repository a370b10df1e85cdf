"""Define what is exchanged about enrollments that begin and end."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from worker.models import Pair


class NewerDrops(NamedTuple):
    """The drops that count later than some moment, and how far back requests may count."""

    limit: datetime | None
    """Requests that count earlier are refused, because history was pruned; None if none was."""
    ended: Mapping[Pair, datetime] | None
    """The latest of these drops, by pair; None if there are too many to list."""
    has_notes: bool = False
    """Whether any enrollment is named by another data set than its owner."""


class PairState(NamedTuple):
    """What is stored about a pair of a student and a course."""

    enrolled_at: datetime | None
    """When the open enrollment began; None if the pair is not enrolled."""
    confirmed_at: datetime | None
    """The latest moment at which a request enrolled or confirmed it, if that matters."""
    ended_at: datetime | None
    """The latest moment of a drop; None if the pair was never dropped."""


class Drop(NamedTuple):
    """When a pair is dropped, and by which request."""

    ended_at: datetime
    reason: str | None
    request_id: str
    enrolled_at: datetime | None = None
    """When the enrollment began; None if the pair is not enrolled."""
    data_set: int | None = None
    """The data set of an enrollment that began in the same transaction."""
