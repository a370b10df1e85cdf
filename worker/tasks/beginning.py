"""Record that requests begin, before anything depends on what is in them."""

from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from worker.enrollment.rules import Decisions


class FailedBefore(Exception):
    """One of the requests of a group has already failed or killed its worker too often."""


class BeginningOnce:
    """Records once that a group of requests begins, before anything depends on what is in them.

    `begin` returns the most attempts of any, divided by the limit, and the generation of cached
    results. A call raises FailedBefore if there was such an attempt.
    """

    def __init__(self, begin: Callable[[], tuple[int, str | None]]) -> None:
        self._begin = begin
        self._attempts: int | None = None
        self.generation: str | None = None

    def __call__(self) -> None:
        """Record it, unless that was done. Raises FailedBefore."""
        if self._attempts is None:
            self._attempts, self.generation = self._begin()
        if self._attempts:
            raise FailedBefore

    def in_any_case(self, work: Callable[[], Decisions]) -> Decisions:
        """Do work that calls this; record the beginning also if the database lets no work begin.

        Raises FailedBefore, and what the work raises.
        """
        try:
            return work()
        except DBAPIError:
            self()
            raise
