"""Faults of processes: killed, stopped or frozen."""

import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.faults.kinds import Scene, blow

ABSENT = ("not up",)
LOST = ("not up", "messages recovered", "enrollment_recovered_messages_total")


@contextmanager
def stopped_workers(scene: Scene) -> Iterator[None]:
    """Let all workers stand still, so that messages wait."""
    for worker in scene.fleet.workers:
        worker.signal_group(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in scene.fleet.workers:
            worker.signal_group(signal.SIGCONT)


@blow("Process 'ForkPoolWorker-", loses_numbers=True)
def kill_pool_process(scene: Scene) -> None:
    pool = scene.fleet.any_worker(scene.chance).pool()
    if pool:
        with contextlib.suppress(Exception):
            scene.chance.choice(pool).kill()


@blow(*LOST, loses_numbers=True)
def kill_worker(scene: Scene) -> None:
    worker = scene.fleet.any_worker(scene.chance)
    worker.kill()
    scene.fleet.replace(worker)


@blow(*ABSENT, loses_numbers=True)
def kill_main_process(scene: Scene) -> None:
    worker = scene.fleet.any_worker(scene.chance)
    worker.process.kill()
    worker.process.wait()
    scene.fleet.replace(worker)


@blow(*ABSENT, loses_numbers=True)
def terminate_worker(scene: Scene) -> None:
    worker = scene.fleet.any_worker(scene.chance)
    worker.process.terminate()
    if scene.chance.random() < 0.5:
        time.sleep(scene.chance.random())
        worker.kill()
    else:
        worker.end()
    scene.fleet.replace(worker)


@blow(*ABSENT, loses_numbers=True)
def terminate_group(scene: Scene) -> None:
    worker = scene.fleet.any_worker(scene.chance)
    worker.signal_group(signal.SIGTERM)
    worker.end()
    scene.fleet.replace(worker)


@blow(*LOST, loses_numbers=True)
def kill_while_taking(scene: Scene) -> None:
    worker = scene.fleet.any_worker(scene.chance)
    worker.signal_group(signal.SIGSTOP)
    time.sleep(0.3)  # In the meantime, Redis moves a message to the frozen worker.
    worker.kill()
    scene.fleet.replace(worker)


@blow(*ABSENT)
def stop_beyond_lease(scene: Scene) -> None:
    worker = scene.fleet.any_worker(scene.chance)
    worker.signal_group(signal.SIGSTOP)
    time.sleep(11)
    worker.signal_group(signal.SIGCONT)
