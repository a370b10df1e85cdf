"""Work is sent to an idle pool process at once; the private parts of Celery are unchanged."""

import inspect
from collections import deque
from types import SimpleNamespace

import pytest
from celery.concurrency.asynpool import AsynPool

from worker.messaging.pool_writes import write_at_once


def processes(**fields: object) -> AsynPool:
    """Return Celery's pool, which has started no process."""
    made = AsynPool.__new__(AsynPool)
    parts: dict[str, object] = {
        "outbound_buffer": deque(["work"]),
        "_all_inqueues": {3, 4, 5},
        "_active_writes": {4},
        "_busy_workers": {5},
    }
    vars(made).update(parts | fields)
    return made


def written(pool: object) -> list[list[int]]:
    calls: list[list[int]] = []
    write_at_once(SimpleNamespace(_pool=pool), SimpleNamespace(consolidate_callback=calls.append))
    return calls


def test_work_that_waits_goes_to_an_idle_process() -> None:
    assert written(processes()) == [[3]]


def test_nothing_is_sent_if_nothing_waits_or_all_processes_are_busy() -> None:
    assert written(processes(outbound_buffer=deque())) == []
    assert written(processes(_busy_workers={3, 5})) == []


@pytest.mark.parametrize("error", [BrokenPipeError, RuntimeError])
def test_work_that_cannot_be_sent_now_is_left_to_the_event_loop(
    caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    def fail(_: object) -> None:
        raise error

    with caplog.at_level("INFO"):
        write_at_once(
            SimpleNamespace(_pool=processes()), SimpleNamespace(consolidate_callback=fail)
        )
    assert len(caplog.records) == 1


def test_pools_without_pipes_are_left_alone() -> None:
    assert written(object()) == []
    write_at_once(SimpleNamespace(_pool=processes()), None)


def test_the_private_code_it_relies_on_is_unchanged() -> None:
    source = inspect.getsource(AsynPool._create_write_handlers)
    for needle in (
        "hub.consolidate_callback = schedule_writes",
        "def schedule_writes(ready_fds",
        "all_inqueues = self._all_inqueues",
        "active_writes = self._active_writes",
        "busy_workers = self._busy_workers",
        "outbound = self.outbound_buffer",
        # What a process that ended did not get goes to another one.
        "job._write_to = proc",
    ):
        assert needle in source
