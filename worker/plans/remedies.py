"""Name the remedies that the detail of a plan ends with while the plan is to go on."""

from typing import Final

RETRY: Final = (
    "Ask the operator to retry it (`enroll dead-letters list`); then the plan continues by itself."
)
TRIES_AGAIN: Final = "A worker tries again by itself."


def cause_in(detail: str) -> str:
    """Return the cause that a detail names, without a remedy that is of no use any more."""
    return detail.removesuffix(RETRY).removesuffix(TRIES_AGAIN).rstrip()
