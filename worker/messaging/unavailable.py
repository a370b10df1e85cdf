"""Requeue a message because the database was unavailable, which is not the message's fault."""

from celery.exceptions import Reject


class DatabaseUnavailable(Reject):
    """The message is to be requeued, and the worker should take no more work for `pause` seconds.

    Lookups are not affected: they may be answered, and their clients are waiting. `refusal` is
    what the database answered, for any client; None if it is unavailable.
    """

    def __init__(self, reason: str, pause: float, refusal: str | None = None) -> None:
        super().__init__(reason, requeue=True)
        # From these, the main process rebuilds the exception that a pool process raised.
        self.args = (reason, pause, refusal)
        self.pause = pause
        self.refusal = refusal
