"""Name the variables of Celery that would replace our own settings."""

from collections.abc import Mapping
from typing import Final

OVERRIDES: Final = {
    "CELERY_BROKER_URL": "the broker of ENROLL_BROKER_URL",
    "CELERY_BROKER_READ_URL": "the broker of ENROLL_BROKER_URL when messages are taken",
    "CELERY_BROKER_WRITE_URL": "the broker of ENROLL_BROKER_URL when messages are published",
    "CELERY_RESULT_BACKEND": "the Redis of ENROLL_RESULT_BACKEND_URL",
    "CELERY_CONFIG_MODULE": "our settings for Celery",
    "CELERY_LOADER": "our settings for Celery",
}
"""The variables that Celery prefers to the settings that it is given, and what they replace."""


def overriding_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set in an environment, with what each of them replaces."""
    return {name: what for name, what in OVERRIDES.items() if environment.get(name)}


_OF_CELERY = ("APP", "BROKER_URL", "CONFIG_MODULE", "LOADER", "RESULT_BACKEND", "SKIP_CHECKS")
"""Variables that the command `celery` reads as well."""


def without_celery_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any variable from which Celery would take a setting."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("CELERY_") and name not in _OF_CELERY
    }
