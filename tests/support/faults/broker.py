"""Faults of the broker and of the network before it."""

import time
from collections.abc import Iterator

from producer.contract.routing import Queue
from support.faults.kinds import Needs, Scene, blow, state

CUT = ("consumer: Connection to broker lost",)
SILENT = ("broker not up",)
REFUSES = tuple(f"Redis refuses to hand out messages of {queue}" for queue in Queue)


@blow(*CUT)
def restart_broker(scene: Scene) -> None:
    scene.fleet.broker.kill()
    time.sleep(scene.chance.random())
    scene.fleet.broker.start()


@blow(*CUT, loses_numbers=True)
def wipe_broker(scene: Scene) -> None:
    scene.loses_messages = True
    scene.fleet.broker.wipe()


@blow(*CUT)
def cut_connections(scene: Scene) -> None:
    scene.fleet.broker.cut_connections()


@blow(*CUT)
def cut_proxy(scene: Scene) -> None:
    scene.fleet.name.cut()


@state(*SILENT, seconds=(1, 4))
def silence_proxy(scene: Scene) -> Iterator[None]:
    with scene.fleet.name.silent():
        yield


@state(*SILENT, seconds=(5, 5))
def freeze_broker(scene: Scene) -> Iterator[None]:
    with scene.fleet.broker.frozen():
        yield


@state(*REFUSES, seconds=(0.5, 2))
def fill_broker(scene: Scene) -> Iterator[None]:
    with scene.fleet.broker.full():
        yield


@state(*REFUSES, seconds=(0.5, 2))
def forbid_writing(scene: Scene) -> Iterator[None]:
    with scene.fleet.broker.read_only():
        yield


@state(seconds=(1, 5))
def revoke_redis_right(scene: Scene) -> Iterator[None]:
    """Take a command, or all that write, from every client."""
    rights = ("-blmove", "-lmove", "-eval", "-set", "-get", "-del", "-publish", "-@write")
    with scene.fleet.broker.forbidden(scene.chance.choice(rights)):
        yield


@state(seconds=(1, 4))
def occupy_redis(scene: Scene) -> Iterator[None]:
    """Let a script run without end: every command is answered with BUSY."""
    with scene.fleet.broker.busy():
        yield


@state(*REFUSES, seconds=(0.5, 4), needs=Needs.REPLICA)
def switch_redis(scene: Scene) -> Iterator[None]:
    """Let master and replica change places; the name follows later, open connections never."""
    scene.fleet.broker.switch_over()
    try:
        yield
    finally:
        scene.fleet.broker.move_names()
