"""Hold everything that a worker in memory knows, so that a plan can be made on a copy of it."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Self

from producer.testing.batches import Batches
from producer.testing.data_sets import DataSets
from producer.testing.rulebook import Enrollments


@dataclass(frozen=True)
class World:
    """The roster with its enrollments, the data sets that own them, and the batches."""

    enrollments: Enrollments
    data_sets: DataSets
    batches: Batches

    @classmethod
    def empty(cls) -> Self:
        """Return a world in which nothing was submitted."""
        enrollments = Enrollments()
        data_sets = DataSets(enrollments.intervals)
        return cls(enrollments, data_sets, Batches(enrollments, data_sets))

    def copy(self) -> Self:
        """Return a copy, in which something can be tried out."""
        return deepcopy(self)
