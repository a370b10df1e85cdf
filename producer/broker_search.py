"""Find the broker that is meant if none is named: that of the environment, or of `enroll up`."""

import os
from typing import NamedTuple

from producer.contract.stack_folder import find_running
from producer.errors import BrokerNotFound


class FoundBroker(NamedTuple):
    """How to reach a deployment; the URLs may hold passwords."""

    url: str
    result_backend_url: str | None
    key_prefix: str


def find_broker() -> FoundBroker:
    """Return the broker of ENROLL_BROKER_URL, or of the `enroll up` that runs in this folder.

    The variables ENROLL_RESULT_BACKEND_URL and ENROLL_KEY_PREFIX count for ENROLL_BROKER_URL; a
    running `enroll up` has both of its own. Raises BrokerNotFound.
    """
    if url := os.environ.get("ENROLL_BROKER_URL"):
        results = os.environ.get("ENROLL_RESULT_BACKEND_URL") or None
        return FoundBroker(url, results, os.environ.get("ENROLL_KEY_PREFIX", ""))
    running = find_running()
    if running is None:
        raise BrokerNotFound(
            "The broker's URL is missing: pass it, or set ENROLL_BROKER_URL, or run `enroll up` in"
            " this folder or one above it."
        )
    return FoundBroker(running.broker_url, None, running.key_prefix)
