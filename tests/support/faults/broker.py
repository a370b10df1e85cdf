"""Faults of the broker and of the network before it."""

import time
from collections.abc import Iterator
from functools import partial

from producer.contract.routing import Queue
from support.faults.kinds import Needs, Scene, blow, state
from support.faults.processes import stopped_workers

CUT = ("consumer: Connection to broker lost",)
SILENT = ("broker not up",)
WRONG_SERVER = ("Redis refuses to hand out messages from", *CUT)
REFUSES = tuple(f"Redis refuses to hand out messages from {queue}" for queue in Queue)

blow_broker = partial(blow, needs=Needs.NAMED_BROKER)
on_broker = partial(state, needs=Needs.NAMED_BROKER)


@blow_broker(*CUT)
def restart_broker(scene: Scene) -> None:
    scene.broker.kill()
    time.sleep(scene.chance.random())
    scene.broker.start()


@on_broker(*CUT, seconds=(1, 2), loses_numbers=True)
def wipe_broker(scene: Scene) -> Iterator[None]:
    """Lose all data while workers stand still and messages wait."""
    scene.loses_messages = True
    with stopped_workers(scene):
        yield
        scene.broker.wipe()


@blow_broker(*CUT)
def cut_connections(scene: Scene) -> None:
    scene.broker.cut_connections()


@blow_broker(*CUT)
def cut_proxy(scene: Scene) -> None:
    scene.fleet.name.cut()


@on_broker(*SILENT, seconds=(1, 4))
def silence_proxy(scene: Scene) -> Iterator[None]:
    with scene.fleet.name.silent():
        yield


@on_broker(*SILENT, seconds=(5, 5))
def freeze_broker(scene: Scene) -> Iterator[None]:
    with scene.broker.frozen():
        yield


@on_broker(*SILENT, seconds=(60, 60))
def freeze_broker_for_a_minute(scene: Scene) -> Iterator[None]:
    with scene.broker.frozen():
        yield


@on_broker(*SILENT, seconds=(120, 120))
def freeze_broker_for_two_minutes(scene: Scene) -> Iterator[None]:
    with scene.broker.frozen():
        yield


@on_broker(*REFUSES, seconds=(0.5, 2))
def fill_broker(scene: Scene) -> Iterator[None]:
    with scene.broker.full():
        yield


@on_broker(*WRONG_SERVER, seconds=(0.5, 2))
def forbid_writing(scene: Scene) -> Iterator[None]:
    with scene.broker.read_only():
        yield


@on_broker("Redis ", seconds=(1, 5))
def revoke_redis_right(scene: Scene) -> Iterator[None]:
    """Deny a command, or all that write, to every client."""
    rights = ("-blmove", "-lmove", "-eval", "-set", "-get", "-del", "-publish", "-@write")
    with scene.broker.forbidden(scene.chance.choice(rights)):
        yield


@on_broker("Redis refuses", seconds=(1, 4))
def occupy_redis(scene: Scene) -> Iterator[None]:
    """Let a script run without end: every command is answered with BUSY."""
    with scene.broker.busy():
        yield


@on_broker(*WRONG_SERVER, seconds=(0.5, 4))
def switch_redis(scene: Scene) -> Iterator[None]:
    """Let master and replica change places; the name follows later, open connections never."""
    scene.broker.switch_over()
    try:
        yield
    finally:
        scene.broker.move_names()
