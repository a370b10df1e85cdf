"""Patch other libraries, in the three places where they offer no setting.

Each patch says what it changes and why; tests/unit/worker/messaging/test_patches.py fails when one
no longer works, or is no longer needed.
"""

import logging
from typing import Any

from billiard import pool
from celery.apps import worker as celery_worker
from prometheus_client import values


def stop_pool_processes_soon(**_: Any) -> None:
    """Let a pool process that stops wait 2 seconds for its last result to be read, and not 30.

    billiard's `Worker._ensure_messages_consumed` waits 300 times 0.1 s. A task that was handed over
    just before the worker was told to stop is requeued: nothing reads its result any more. Called
    in each pool process, where the constant is looked up.
    """
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20


def log_shutdown_messages() -> None:
    """Send what Celery says when it is told to stop through the log.

    `celery.apps.worker.safe_say` writes to standard error past the log, from a signal's handler: in
    a log of JSON lines it would be the only line that is not JSON.
    """
    log = logging.getLogger("celery")
    celery_worker.safe_say = lambda text, _stream=None: log.info(text)


def count_in_all_processes() -> None:
    """Make prometheus-client keep its numbers in files that all processes share.

    It decides that by PROMETHEUS_MULTIPROC_DIR when it is first imported. Flower, where it is
    installed, imports it before we can set the variable.
    """
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
