"""Name the variables with which Celery finds a broker, and which our apps ignore."""

from collections.abc import Mapping
from typing import Final

IGNORED: Final = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
    "CELERY_CONFIG_MODULE",
    "CELERY_LOADER",
)
"""The variables that Celery prefers to the settings that it is given; see `own_celery`."""


def ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """Return those of these variables that are set in an environment."""
    return [name for name in IGNORED if environment.get(name)]


def without_celery(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any variable of Celery, for a child that is ours alone."""
    return {name: value for name, value in environment.items() if not name.startswith("CELERY_")}
