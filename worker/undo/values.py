"""Define what the parts of an undo exchange: the batch, its changes, and what undoes them."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from producer.contract.chunks import Tally
from producer.schemas import Action
from worker.models import Pair


class CannotUndo(Exception):
    """A batch cannot be undone. The message says why, and what to do instead."""


class UnknownBatch(CannotUndo):
    """No batch with this id is known."""


class AlreadyUndone(CannotUndo):
    """The batch was undone before."""


class UndoneElsewhere(CannotUndo):
    """A command or another worker is undoing the batch at the same time."""


class UndoneBatch(NamedTuple):
    """A batch to undo, and the batch that undoes it."""

    id: str
    moment: datetime
    """The moment of the batch that is undone."""
    has_data_set: bool
    """Whether the batch that was submitted, which it is or undoes, has a data set."""
    undo_id: str
    counts_at: datetime
    """The moment of the batch that undoes it."""
    after_others: bool = False
    """Whether another batch was undone before, or is being undone; true as well if the batch undid
    one that may have changed pairs more than once."""
    lacking: int | None = None
    """The data set of which the batch is a snapshot, if it is one and `after_others` is true."""


class Progress(NamedTuple):
    """How far a batch that undoes another one has come."""

    chunks: int = 0
    is_done: bool = False
    size: Tally = Tally()


class Change(NamedTuple):
    """What a request of the batch did to a pair: it opened an enrollment, or ended one."""

    pair: Pair
    action: Action
    moment: datetime
    request_id: str


class Restored(NamedTuple):
    """A pair that is enrolled again, and the data set that owned the enrollment."""

    pair: Pair
    data_set: int | None
    ended_at: datetime
    """When the batch ended the enrollment."""
    counts_at: datetime
    """When it begins again."""


class Reversal(NamedTuple):
    """A request that undoes changes of one student."""

    student: int
    enrolled: Sequence[int]
    """The courses to enroll in: the batch ended these enrollments."""
    dropped: Sequence[int]
    """The courses to drop: the batch opened these enrollments."""
    counts_at: datetime


class PageUndo(NamedTuple):
    """What undoes a page."""

    reversals: Sequence[Reversal]
    restored: Sequence[Restored]


class LeftPair(NamedTuple):
    """A pair that is left as it is, because a later request asked for that."""

    student_id: int
    student_sis_id: str
    course_id: int
    course_sis_id: str
    action: Action
    """What the undo asked for."""
    moment: datetime
    """The moment of the request that won."""
    request_id: str | None
    """That request; None if its result was pruned."""
