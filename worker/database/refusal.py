"""Explain why a database must not be used, and what to do about it."""

from typing import NamedTuple


class Refusal(NamedTuple):
    """Why a database must not be used: a problem without a full stop, and sentences that help.

    `public` is the problem for clients, where the problem itself names hosts.
    """

    problem: str
    remedy: str
    public: str = ""

    def __str__(self) -> str:
        """Return both as sentences."""
        return f"{self.problem[:1].upper()}{self.problem[1:]}. {self.remedy}"
