"""Hold a plan while this process makes it: a thread renews the lease, even during one statement.

So the lease can be short, and another worker soon goes on if this one is killed.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from worker.plans.holder import Holder
from worker.plans.repository import LeaseLost
from worker.plans.times import RENEW, STUCK

log = logging.getLogger(__name__)


@contextmanager
def beating(holder: Holder, every: timedelta = RENEW) -> Iterator[Callable[[], None]]:
    """Renew the lease of a plan until the block ends, or until the yielded function is called.

    Call that before a transaction that changes the plan without `Holder.do`.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=renew_until, args=(stopped, holder, every), daemon=True)

    def stop() -> None:
        stopped.set()
        thread.join()

    thread.start()
    try:
        yield stop
    finally:
        stop()


def renew_until(
    stopped: threading.Event,
    holder: Holder,
    every: timedelta = RENEW,
    stuck: timedelta = STUCK,
) -> None:
    """Renew the lease of a plan until the event, or as long as its work makes progress."""
    while not stopped.wait(every.total_seconds()):
        if holder.seconds_without_progress() >= stuck.total_seconds():
            log.warning("The plan %s makes no progress, and its lease ends", holder.plan.id)
            return
        try:
            holder.beat()
        except LeaseLost:
            return  # The thread that makes the plan finds out at its next step.
        except SQLAlchemyError as error:
            log.info("The lease of the plan %s was not renewed: %s", holder.plan.id, error)
