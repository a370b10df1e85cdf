"""Track the messages that a worker holds in slots, and acknowledge or requeue them.

A slot is a Redis list for one message; `worker.messaging.transport` explains why it exists.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from kombu.transport import virtual
from redis.exceptions import ConnectionError, RedisError  # noqa: A004

from producer.contract.routing import Queue

log = logging.getLogger(__name__)

SLOTS = 1024
"""The number of slots that a worker has for each queue.

It holds messages in at most half of them: the rest replace slots whose last command got no reply.
"""

_SCRIPTS = files("worker.messaging")
MOVE = _SCRIPTS.joinpath("move.lua").read_text(encoding="ascii")
"""Moves a message from one list to another; its second key may be a slot or a queue."""


class QoS(virtual.QoS):
    """The messages that a worker holds. A failed acknowledgement is repeated later."""

    prefetch_count: int

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._queues: dict[str, str] = {}
        self._free: dict[str, deque[str]] = {}
        self._pending_acks: deque[tuple[str, bool]] = deque()
        self._abandoned: list[str] = []
        self._raised: dict[str, int] = {}
        self._to_collect = 0
        self._collected: list[str] = []

    def has_room(self, queue: str) -> bool:
        """Return whether the worker may hold one more message of this queue.

        The whole prefetch limit applies to each queue, so that no queue waits for another.
        Messages held for grouping raise the limit, but only for their own queue.
        """
        limit = self.prefetch_count - sum(n for name, n in self._raised.items() if name != queue)
        if queue != Queue.ENROLLMENTS:
            limit -= len(self._held[Queue.ENROLLMENTS])
        limit = max(1, limit)
        if not self.prefetch_count:
            limit = SLOTS // 2
        return len(self._held[queue]) < min(limit, SLOTS // 2)

    def count_held(self, queue: str) -> int:
        """Return how many messages of this queue the worker holds."""
        return len(self._held[queue])

    def note_raised(self, queue: str, messages: int) -> None:
        """Note by how many messages held for grouping the limit is raised for this queue alone.

        Of single requests, every one that is held is in a group.
        """
        self._raised[queue] = messages

    def _slots(self, queue: str) -> deque[str]:
        if queue not in self._free:
            start = self.channel.keys.intake("taken", self.channel.taker, queue, "")
            self._free[queue] = deque(f"{start}{number}" for number in range(SLOTS))
        return self._free[queue]

    def reserve(self, queue: str) -> str:
        """Reserve a free slot. Raises ConnectionError if none is left, to force a reconnect."""
        if not self._slots(queue):
            raise ConnectionError(
                f"All {SLOTS} slots for the queue {queue} are used up, because Redis left too many"
                " commands without a reply. The worker reconnects and gets new slots; if this"
                " happens again, check Redis and the network"
            )
        slot = self._slots(queue).popleft()
        self._queues[slot] = queue
        return slot

    def release(self, slot: str) -> None:
        """Free a slot that no longer holds a message."""
        self._slots(self._queues[slot]).append(slot)

    def append(self, message: Any, delivery_tag: str) -> None:
        # A broadcast lies in no slot.
        if delivery_tag in self._queues:
            self._held[self._queues[delivery_tag]].add(delivery_tag)
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        self._finish(delivery_tag, requeue=False)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        self._finish(delivery_tag, requeue=requeue)

    def _finish(self, slot: str, *, requeue: bool) -> None:
        super().ack(slot)
        if slot not in self._queues:
            return
        self._held[self._queues[slot]].discard(slot)
        if requeue or not self._to_collect:
            self._settle([slot], requeue=requeue)
            return
        self._collected.append(slot)
        self._to_collect -= 1
        if not self._to_collect:
            slots, self._collected = self._collected, []
            self._settle(slots, requeue=False)

    def collect_acks(self, messages: int) -> None:
        """Send the next acknowledgements, this many, in one command.

        Celery acknowledges a message only when its event loop turns again. What has been collected
        by the next heartbeat is acknowledged then, even if some of them never come.
        """
        self._to_collect += messages

    def _settle(self, slots: Sequence[str], *, requeue: bool) -> None:
        try:
            self._acknowledge(*slots, requeue=requeue)
        except (RedisError, OSError) as error:
            # The slots are not reused: Redis may still carry out the command later.
            self.channel.warn_throttled(
                "Redis did not confirm an acknowledgement; it will be repeated", error
            )
            self._pending_acks.extend((slot, requeue) for slot in slots)
        else:
            for slot in slots:
                self.release(slot)

    def _acknowledge(self, *slots: str, requeue: bool) -> None:
        if not requeue:
            self.channel.sync.unlink(*slots)
            return
        for slot in slots:
            queue = self.channel.keys.queue(self._queues[slot])
            self.channel.sync.eval(MOVE, 2, slot, queue, "LEFT", "RIGHT")

    def abandon_slot(self, slot: str) -> None:
        """Retire a slot into which Redis may still move a message; requeue what arrives there."""
        self._abandoned.append(slot)

    def restore_visible(self, *_: object, **__: object) -> None:
        """Send the heartbeat; kombu calls this hook at regular intervals."""
        self.channel.beat_if_allowed()

    def retry_pending_acks(self) -> None:
        """Repeat unconfirmed acknowledgements and requeues, and empty retired slots.

        Raises RedisError.
        """
        self._pending_acks.extend((slot, False) for slot in self._collected)
        self._to_collect, self._collected = 0, []
        for _ in range(len(self._pending_acks)):
            slot, requeue = self._pending_acks[0]
            self._acknowledge(slot, requeue=requeue)
            self._pending_acks.popleft()
        for slot in self._abandoned:
            self._acknowledge(slot, requeue=True)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's
        """Requeue every held message for the last time: the channel is closed."""
        self._on_collect.cancel()
        self.restore_unacked()
        self._delivered.restored = True

    def restore_unacked(self) -> None:
        """Requeue every held message now; if Redis is unavailable, a later heartbeat does it."""
        held = [slot for slots in self._held.values() for slot in slots]
        self._pending_acks.extend((slot, True) for slot in held)
        self._held.clear()
        self._delivered.clear()
        if held:
            log.info("Requeuing %s messages", len(held))
        try:
            self.retry_pending_acks()
        except (RedisError, OSError) as error:
            if self._pending_acks:
                count = len(self._pending_acks)
                log.warning(
                    "%s messages could not be requeued yet; the worker will try again: %s",
                    count,
                    error,
                )
