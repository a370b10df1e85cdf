"""Find the broker if the caller names none: that of the environment, or of `enroll up`."""

import os
from pathlib import Path
from typing import NamedTuple

from producer.contract.stack_folder import (
    StackState,
    UnusableFolder,
    find_stacks,
    given_folder,
    open_stack,
)
from producer.errors import BrokerNotFound


class FoundBroker(NamedTuple):
    """How to reach a deployment; the URLs may hold passwords."""

    url: str
    result_backend_url: str | None
    key_prefix: str


def find_broker() -> FoundBroker:
    """Return the broker of ENROLL_BROKER_URL, of ENROLL_FOLDER, or of an `enroll up` near by.

    The variables ENROLL_RESULT_BACKEND_URL and ENROLL_KEY_PREFIX count for ENROLL_BROKER_URL; an
    `enroll up` has both of its own. Near by is this folder or one above it. Raises BrokerNotFound.
    """
    if url := os.environ.get("ENROLL_BROKER_URL"):
        results = os.environ.get("ENROLL_RESULT_BACKEND_URL") or None
        return FoundBroker(url, results, os.environ.get("ENROLL_KEY_PREFIX", ""))
    state = _running_stack()
    return FoundBroker(state.broker_url, None, state.key_prefix)


def _running_stack() -> StackState:
    if folder := os.environ.get("ENROLL_FOLDER"):
        try:
            return open_stack(given_folder(Path(folder)))
        except UnusableFolder as error:
            raise BrokerNotFound(str(error)) from None
    found = find_stacks(Path.cwd())
    if found.state is None:
        missing = (
            "The broker's URL is missing: pass it, or set ENROLL_BROKER_URL, or run `enroll up` in"
            " this folder or one above it."
        )
        raise BrokerNotFound(" ".join([missing, *found.ignored]))
    return found.state
