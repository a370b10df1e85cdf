"""Patch other libraries, in the five places where they offer no setting.

Each patch says what it changes and why; tests/unit/worker/messaging/test_patches.py fails when one
no longer works, or is no longer needed.
"""

import logging
from typing import Any

from billiard import pool
from celery.apps import worker as celery_worker
from celery.concurrency.asynpool import AsynPool, _get_job_writer
from prometheus_client import values


def stop_pool_processes_soon(**_: Any) -> None:
    """Make a stopping pool process wait half a second, not 30, for its last result to be read.

    billiard's `Worker._ensure_messages_consumed` waits 300 times 0.1 s. A task that started just
    before the worker began to stop is requeued, and nothing reads its result. Call this in each
    pool process, which looks the constant up.
    """
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 5


def log_shutdown_messages() -> None:
    """Send Celery's shutdown messages through the log.

    `celery.apps.worker.safe_say` writes from a signal handler straight to standard error. In a
    JSON log, that would be the only line that is not JSON.
    """
    log = logging.getLogger("celery")
    celery_worker.safe_say = lambda text, _stream=None: log.info(text)


def notice_ended_processes(**_: Any) -> None:
    """Replace a pool process as soon as it has ended, and survive a reconnect before that.

    Linux closes the files of a process a moment before it ends. Celery's `AsynPool` looks once when
    they are closed, and then only every 5 seconds; until then, the task is not known to be lost. If
    the worker reconnects to its broker in that time, `_track_child_process` ends the worker with
    "file descriptor is None".
    """
    look, track = AsynPool._event_process_exit, AsynPool._track_child_process  # noqa: SLF001

    def look_when_ended(self: AsynPool, hub: Any, process: Any) -> None:
        process.join(1)
        look(self, hub, process)

    def track_if_running(self: AsynPool, process: Any, hub: Any) -> None:
        if getattr(process, "_sentinel_poll", ...) is not None:
            track(self, process, hub)

    AsynPool._event_process_exit = look_when_ended  # noqa: SLF001
    AsynPool._track_child_process = track_if_running  # noqa: SLF001


def end_between_messages(**_: Any) -> None:
    """Let a worker that stops first finish what it is writing to its pool processes.

    A large message, such as a chunk, fits into a pipe only in parts. Celery's warm shutdown writes
    no further parts, but the message that ends the process: this takes it for the next part, and
    waits for the others as long as the worker waits for the process to end, which is for ever.
    """
    close = AsynPool.close

    def close_between_messages(self: AsynPool) -> None:
        for job in tuple(self._cache.values()):
            writer = _get_job_writer(job)
            if writer in self._active_writers and job._write_to is not None:  # noqa: SLF001
                self._flush_writer(job._write_to, writer)  # noqa: SLF001
        close(self)

    AsynPool.close = close_between_messages


def count_in_all_processes() -> None:
    """Make prometheus-client store its numbers in files that all processes share.

    The library decides that by PROMETHEUS_MULTIPROC_DIR when it is first imported. Flower, if it
    is installed, imports it before we can set the variable.
    """
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
