"""Define what a check of the set-up finds; `enroll doctor` prints it, and workers report it."""

from enum import StrEnum

from pydantic import Field

from producer.schemas import ContractModel


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    """Nothing needs to be done."""
    WARNING = "warning"
    """The system works, but may soon have a problem."""
    WRONG = "wrong"
    """Something does not work, or will lose data when a server fails."""


class Finding(ContractModel):
    """The result of one check, with a remedy unless all is well."""

    check: str = Field(description="What was checked, in a word or two.")
    state: State = Field(description="How severe the finding is.")
    found: str = Field(description="What was found, for people.")
    remedy: str = Field(default="", description="What to do about it; empty if all is well.")


def ok(check: str, observation: str) -> Finding:
    """Return a finding with nothing to do."""
    return Finding(check=check, state=State.OK, found=observation)


def warning(check: str, observation: str, remedy: str) -> Finding:
    """Return a finding that may soon be a problem."""
    return Finding(check=check, state=State.WARNING, found=observation, remedy=remedy)


def wrong(check: str, observation: str, remedy: str) -> Finding:
    """Return a finding that is a problem now, or will lose data when a server fails."""
    return Finding(check=check, state=State.WRONG, found=observation, remedy=remedy)
