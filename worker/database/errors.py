"""Classify a database error: an outage, a conflict, or neither."""

from sqlalchemy.exc import DBAPIError

RETRYABLE_STATES = ("40001", "40P01")
"""Serialization failure and deadlock: the whole transaction can simply be run again."""


def is_outage(error: DBAPIError) -> bool:
    """Return whether the database is unavailable, full or locked: the work may succeed later."""
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or state is None:
        return type(error).__name__ in ("OperationalError", "InterfaceError")
    return state[:2] in ("08", "53", "57", "58") or state == "25006"


def is_conflict(error: DBAPIError) -> bool:
    """Return whether another transaction came first: the next run will see what it wrote."""
    return (
        type(error).__name__ == "IntegrityError"
        or getattr(error.orig, "sqlstate", None) in RETRYABLE_STATES
    )
