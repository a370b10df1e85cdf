"""Define what is exchanged about the enrollments that a snapshot does not name."""

from enum import StrEnum
from typing import Final, NamedTuple

from producer.contract.plans import MAX_COURSES_SHOWN, AbsentRows, CourseDrops


class Fate(StrEnum):
    """What a snapshot does with an enrollment of its data set that it does not name.

    The values are stored (`worker.plan_models.PlannedDropRow`) and are fields of `AbsentRows`.
    """

    DROPPED = "dropped"
    """It is dropped."""
    PASSED_ON = "passed_on"
    """Another data set names it, too, and owns it from now on."""
    KEPT_NEWER = "kept_newer"
    """A request that counts at the same moment or later opened or named it."""
    KEPT_REFUSED = "kept_refused"
    """A refused line of the file names it."""
    NOT_ENROLLED = "not_enrolled"
    """Another request had dropped it when its turn came."""


LISTED: Final = (Fate.DROPPED, Fate.PASSED_ON)
"""What is planned for the enrollments that are stored with a plan, because they are changed."""


class CourseLoss(NamedTuple):
    """A course of which a snapshot drops students."""

    course_id: int
    sis_id: str
    title: str | None
    owned: int
    """The students that the data set owned before."""
    drops: int
    """Those of them that are dropped."""

    @property
    def name(self) -> str:
        """Return what a registrar calls the course."""
        return f"{self.sis_id} ({self.title})" if self.title else self.sis_id


class Doubts(NamedTuple):
    """Refused lines that may be about enrollments to be dropped."""

    half: int = 0
    """Lines of which the student or the course is that of a planned drop; the other half is not
    recognized."""
    nothing: int = 0
    """Lines of which neither the student nor the course is recognized."""


class OtherOwner(NamedTuple):
    """Another data set that owns enrollments which the file of a snapshot names."""

    name: str
    """The name of the data set."""
    owned: int
    """How many of these enrollments it owns."""
    new: int
    """Those of them that the data set of the snapshot had not named before."""


class Absence(NamedTuple):
    """What a snapshot does not name of the enrollments of its data set."""

    owned_before: int
    """The enrollments that the data set owned before."""
    absent: AbsentRows
    losses: tuple[CourseLoss, ...] = ()
    """All courses with planned drops, the one with the most first."""
    named: int = 0
    """The enrollments that the file names, each once; not counted, and 0, if all of them that exist
    belong to the data set."""
    not_owned: int = 0
    """Those of them that exist and belong to no data set."""
    others: tuple[OtherOwner, ...] = ()
    """The other data sets that own some of them, the one that owns the most first."""
    doubts: Doubts = Doubts()

    @property
    def existing(self) -> int:
        """Return how many of the enrollments that the file names exist already."""
        own = self.owned_before - self.absent.absent
        return own + self.not_owned + sum(other.owned for other in self.others)

    @property
    def courses(self) -> tuple[CourseDrops, ...]:
        """Return the courses that a plan shows."""
        return tuple(CourseDrops(**loss._asdict()) for loss in self.losses[:MAX_COURSES_SHOWN])
