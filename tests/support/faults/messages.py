"""Faults of messages: repeated, out of order, malformed, purged."""

from support.commands import run_program
from support.faults.kinds import Scene, blow
from support.malformed import shapes
from support.paths import BIN, ROOT
from support.workers import worker_environment


@blow()
def deliver_again(scene: Scene) -> None:
    """Copy the next message of each queue, so that it is delivered two to five times."""
    redis = scene.fleet.broker.redis
    for queue in ("enrollments", "batches"):
        waiting = redis.lindex(queue, -1)
        if waiting is not None:
            redis.rpush(queue, *[waiting] * scene.chance.randrange(1, 5))


@blow()
def shuffle(scene: Scene) -> None:
    """Reorder the messages: the oldest becomes the newest."""
    for _ in range(20):
        scene.fleet.broker.redis.lmove("enrollments", "enrollments", "RIGHT", "LEFT")


@blow("dead letter", "enrollment_dead_letters_total")
def push_malformed(scene: Scene) -> None:
    raw = scene.chance.choice(list(shapes().values()))
    scene.malformed.add(raw)
    scene.fleet.broker.redis.lpush(scene.chance.choice(["enrollments", "batches"]), raw)


@blow(loses_numbers=True)
def purge(scene: Scene) -> None:
    """Delete what waits in the queues, as an operator does in the middle of the work."""
    scene.loses_messages = True
    environment = worker_environment(scene.fleet.broker.url, scene.fleet.database_url)
    queues = "enrollments,batches"
    done = run_program(
        *(BIN / "celery", "-A", "worker", "purge", "-f", "-Q", queues), env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
