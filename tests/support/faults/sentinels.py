"""Faults of a broker that sentinels watch: its master is lost, frozen or replaced."""

from collections.abc import Iterator
from functools import partial

from support.faults.kinds import Needs, Scene, state

CUT = ("consumer: Connection to broker lost",)

on_sentinels = partial(state, needs=Needs.SENTINELS, seconds=(3, 8), loses_numbers=True)


@on_sentinels(*CUT)
def kill_master(scene: Scene) -> Iterator[None]:
    """Kill the master; what it had not sent to its replica is lost."""
    scene.loses_messages = True
    lost = scene.sentinels.master
    lost.kill()
    try:
        scene.sentinels.wait_for_successor(lost)
        yield
    finally:
        lost.start()
        scene.sentinels.wait_for_replica()


@on_sentinels()
def freeze_master(scene: Scene) -> Iterator[None]:
    """Freeze the master until another one is in its place; it wakes up as the wrong one."""
    scene.loses_messages = True
    lost = scene.sentinels.master
    with lost.frozen():
        scene.sentinels.wait_for_successor(lost)
        yield
    scene.sentinels.wait_for_replica()


@on_sentinels()
def replace_master(scene: Scene) -> Iterator[None]:
    """Order the sentinels to promote the replica, as before maintenance."""
    scene.loses_messages = True
    old = scene.sentinels.master
    scene.sentinels.order_failover()
    scene.sentinels.wait_for_successor(old)
    yield
    scene.sentinels.wait_for_replica()
