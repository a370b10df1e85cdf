"""Send work to a pool process at once, instead of after the event loop's next turn.

In its next turn the event loop first asks Redis for more messages, for which a lone request would
wait. This module relies on private parts of Celery, which
tests/unit/worker/messaging/test_pool_writes.py names.
"""

import logging
from typing import Any

from celery.concurrency.asynpool import AsynPool

log = logging.getLogger(__name__)


def write_at_once(pool: Any, hub: Any) -> None:
    """Send the work that waits to idle processes, as far as their pipes have room.

    Pools without pipes are left alone. What cannot be sent now is sent by the event loop.
    """
    processes, write = getattr(pool, "_pool", None), getattr(hub, "consolidate_callback", None)
    if write is None or not isinstance(processes, AsynPool):
        return
    try:
        busy = processes._active_writes | processes._busy_workers  # noqa: SLF001 - see above
        idle = processes._all_inqueues - busy  # noqa: SLF001 - see above
        if idle and processes.outbound_buffer:
            write(list(idle))
    except OSError as error:
        # If a process has just ended, Celery notices it and sends its work to another one.
        log.info("A pool process did not take its work: %s", error)
    except Exception:
        log.exception("Work was not sent to a pool process at once; the event loop sends it")
