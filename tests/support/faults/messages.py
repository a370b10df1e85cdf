"""Faults of messages: repeated, out of order, malformed, purged."""

import time
from collections.abc import Iterator
from contextlib import suppress

from redis.exceptions import RedisError

from support.commands import run_python
from support.faults.kinds import Scene, blow, state
from support.faults.processes import stopped_workers
from support.malformed import shapes
from support.paths import ROOT
from support.workers import worker_environment

WORK_COMES = 0.4
"""Seconds after which messages wait in the queues of workers that stand still."""


@blow()
def deliver_again(scene: Scene) -> None:
    """Copy the next message of each queue, so that it is delivered two to five times."""
    redis = scene.fleet.broker.redis
    with stopped_workers(scene):
        time.sleep(WORK_COMES)
        for queue in ("enrollments", "batches"):
            # This may strike during another fault: a full or busy Redis takes no message.
            with suppress(RedisError):
                waiting = redis.lindex(queue, -1)
                if waiting is not None:
                    redis.rpush(queue, *[waiting] * scene.chance.randrange(1, 5))


@blow()
def shuffle(scene: Scene) -> None:
    """Reorder the messages: the oldest becomes the newest."""
    with stopped_workers(scene):
        time.sleep(WORK_COMES)
        for _ in range(20):
            scene.fleet.broker.redis.lmove("enrollments", "enrollments", "RIGHT", "LEFT")


@blow("dead letter", "enrollment_dead_letters_total")
def push_malformed(scene: Scene) -> None:
    raw = scene.chance.choice(list(shapes().values()))
    scene.malformed.add(raw)
    scene.fleet.broker.redis.lpush(scene.chance.choice(["enrollments", "batches"]), raw)


@state(loses_numbers=True, seconds=(1, 2))
def purge(scene: Scene) -> Iterator[None]:
    """Delete what waits while workers stand still, as an operator does by mistake."""
    scene.loses_messages = True
    with stopped_workers(scene):
        yield
        _purge(scene)


def _purge(scene: Scene) -> None:
    environment = worker_environment(scene.fleet.broker.url, scene.fleet.database_url)
    queues = "enrollments,batches"
    command = ("-m", "celery", "-A", "worker", "purge", "-f", "-Q", queues)
    done = run_python(*command, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
