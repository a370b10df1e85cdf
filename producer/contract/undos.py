"""Define what a worker reports about the undo of a batch: what it changes, and what it leaves."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import Field

from producer.contract.batches import Books
from producer.contract.printable import shell_argument
from producer.schemas import Action, ContractModel

MAX_UNDO_COURSES: Final = 1_000
"""The most courses that the report of an undo lists."""

MAX_UNDO_PAIRS: Final = 100
"""The most enrollments that the report of an undo lists, changed ones and those that it leaves."""


def advice_on_undone(batch_id: str, undo_id: str) -> str:
    """Return what to know about a batch that was undone already."""
    return (
        f"The batch {batch_id} was undone already, by {undo_id}. To undo that, run"
        f" `enroll undo {shell_argument(undo_id)}`."
    )


class UndoState(StrEnum):
    """How far the undo of a batch is, or that it was never undone."""

    UNKNOWN = "unknown"
    """The batch is not known: none of its chunks was applied, or it was pruned."""
    REFUSED = "refused"
    """The batch cannot be undone; `advice` says why, and what to do instead."""
    PLANNED = "planned"
    """A dry run: nothing was changed."""
    RUNNING = "running"
    """The batch is being undone: its undo is a batch of its own, `undo_id`."""
    DONE = "done"
    """The batch was undone."""


class CourseUndo(ContractModel):
    """What an undo changes in a course."""

    course_id: int = Field(description="The key of the course.")
    sis_id: str = Field(description="The SIS id of the course.")
    title: str | None = Field(default=None, description="The title of the course.")
    dropped: int = Field(default=0, description="How many students the undo drops.")
    enrolled: int = Field(default=0, description="How many students it enrolls again.")


class UndoneEnrollment(ContractModel):
    """An enrollment that an undo changes."""

    action: Action = Field(
        description="`drop` for an enrollment that the batch began, `enroll` for one that it ended."
    )
    student_id: int = Field(description="The key of the student.")
    student_sis_id: str = Field(description="The SIS id of the student.")
    student_name: str | None = Field(default=None, description="The name of the student.")
    course_id: int = Field(description="The key of the course.")
    course_sis_id: str = Field(description="The SIS id of the course.")
    course_title: str | None = Field(default=None, description="The title of the course.")


class LeftEnrollment(ContractModel):
    """An enrollment that an undo leaves as it is, because a later request decides."""

    action: Action = Field(description="What the undo would have done.")
    student_id: int = Field(description="The key of the student.")
    student_sis_id: str = Field(description="The SIS id of the student.")
    course_id: int = Field(description="The key of the course.")
    course_sis_id: str = Field(description="The SIS id of the course.")
    moment: datetime = Field(description="The moment of the later request.")
    request_id: str | None = Field(
        default=None, description="The later request; null if its result was pruned."
    )


class BatchUndo(ContractModel):
    """The undo of a batch: its state, and what it changes or would change."""

    batch_id: str = Field(description="The batch that is undone.")
    undo_id: str = Field(description="The id of the batch that undoes it.")
    state: UndoState = Field(description="How far the undo is.")
    advice: str | None = Field(
        default=None, description="Why it was refused, or not examined as a whole, and what to do."
    )
    books: Books = Field(
        default=Books(),
        description="The counts of the undo, in rows. `dropped` are enrollments that the batch"
        " began, `enrolled` those that it had ended, and `superseded` those that a later request"
        " decides.",
    )
    left_to_snapshots: int = Field(
        default=0,
        description="How many enrollments are not made again because a later snapshot of their data"
        " set does not name them. They are among the `superseded` ones.",
    )
    is_complete: bool = Field(
        default=True,
        description="False if only the beginning of a large batch was examined: then all counts of"
        " a dry run are lower bounds.",
    )
    courses: tuple[CourseUndo, ...] = Field(
        default=(),
        description="In a dry run, the courses that change, the one with the most changes first.",
    )
    changes: tuple[UndoneEnrollment, ...] = Field(
        default=(), description="In a dry run, the first enrollments that change, with names."
    )
    left: tuple[LeftEnrollment, ...] = Field(
        default=(), description="The first enrollments that a later request decides."
    )
