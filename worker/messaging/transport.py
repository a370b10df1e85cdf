"""Receive messages from Redis so that none is lost, and requeue those of lost workers.

kombu's own transport pops a message and only afterwards records that it holds it; if the worker
is killed in between, the message is lost. Here Redis itself moves each message into a slot: a list
for one message that belongs to the worker. Acknowledging a message deletes its slot. When a
worker's heartbeat stops, another worker moves the contents of its slots back to their queues.
This module relies on private parts of kombu, which tests/unit/worker/messaging/test_transport.py
names.
"""

import itertools
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from importlib.resources import files
from queue import Empty
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

from kombu.transport import redis, virtual
from redis.exceptions import ConnectionError, RedisError, ResponseError  # noqa: A004

from producer.contract.routing import Queue
from worker.messaging.envelope import MalformedMessage, open_envelope

log = logging.getLogger(__name__)

LEASE_SECONDS = 8
"""Seconds, by Redis's clock, without a heartbeat after which a worker counts as lost."""

HEARTBEAT_SECONDS = 2
"""Seconds between two heartbeats. Each heartbeat also looks for the messages of lost workers."""

WARNING_PAUSE = 30.0
"""Seconds between two log lines with the same warning."""

SLOTS = 1024
"""The number of slots, and so of messages, that a worker can hold of one queue."""

PREFIX = "enrollment.intake"

ATTEMPTS = f"{PREFIX}.attempts"
"""The hash that counts failed attempts by task id; see `worker.messaging.attempts`."""


def running_key(instance: str) -> str:
    """Return the key of the hash with the task ids that a worker is executing."""
    return f"{PREFIX}.running.{instance}"


_SCRIPTS = files("worker.messaging")
_MOVE = _SCRIPTS.joinpath("move.lua").read_text(encoding="ascii")
_HEARTBEAT = _SCRIPTS.joinpath("heartbeat.lua").read_text(encoding="ascii")


class TakenMessage(NamedTuple):
    """A message as it was in the queue, and the slot that it is in now."""

    raw: bytes
    slot: str
    queue: str


class Message(virtual.Message):
    """A message with a checked envelope; `fault` says why it is malformed, or is None."""

    def __init__(
        self, payload: TakenMessage | dict[str, Any], channel: Any = None, **options: Any
    ) -> None:
        self.raw: bytes | None = None
        self.fault: str | None = None
        if not isinstance(payload, TakenMessage):
            # A broadcast, such as Celery's events, which does not come from a queue.
            super().__init__(payload, channel=channel, **options)
            return
        self.raw = payload.raw
        try:
            envelope = open_envelope(payload.raw)
        except MalformedMessage as error:
            self.fault, envelope = str(error), {"headers": {}, "properties": {}}
        # Replace what the client claims about the delivery with the queue that it really came from.
        delivery = {"exchange": "", "routing_key": payload.queue}
        properties = {"delivery_tag": payload.slot, "delivery_info": delivery}
        envelope = {**envelope, "properties": {**envelope["properties"], **properties}}
        super().__init__(envelope, channel=channel, **options)


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

    def has_room(self, queue: str) -> bool:
        """Return whether the worker may hold one more message of this queue.

        The whole prefetch limit applies to each queue, so that no queue waits for another.
        Requests held for grouping raise the limit, but only for their own queue.
        """
        limit = self.prefetch_count
        if queue != Queue.ENROLLMENTS:
            limit -= len(self._held[Queue.ENROLLMENTS])
        if not self.prefetch_count:
            limit = SLOTS // 2
        return len(self._held[queue]) < min(limit, SLOTS // 2)

    def _slots(self, queue: str) -> deque[str]:
        if queue not in self._free:
            start = f"{PREFIX}.taken.{self.channel.taker}.{queue}."
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

    def append(self, message: Any, delivery_tag: str) -> None:
        self._held[self._queues[delivery_tag]].add(delivery_tag)
        super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        self._finish(delivery_tag, requeue=False)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        self._finish(delivery_tag, requeue=requeue)

    def _finish(self, slot: str, *, requeue: bool) -> None:
        self._held[self._queues[slot]].discard(slot)
        super().ack(slot)
        try:
            self._acknowledge(slot, requeue=requeue)
        except (RedisError, OSError) as error:
            # The slot is not reused: Redis may still carry out the command later.
            log.warning("Redis did not confirm an acknowledgement; it will be repeated: %s", error)
            self._pending_acks.append((slot, requeue))
        else:
            self._slots(self._queues[slot]).append(slot)

    def _acknowledge(self, slot: str, *, requeue: bool) -> None:
        if requeue:
            self.channel.sync.eval(_MOVE, 2, slot, self._queues[slot], "LEFT", "RIGHT")
        else:
            self.channel.sync.unlink(slot)

    def abandon_slot(self, slot: str) -> None:
        """Retire a slot into which Redis may still move a message; requeue what arrives there."""
        self._abandoned.append(slot)

    def restore_visible(self, *_: object, **__: object) -> None:
        """Send the heartbeat; kombu calls this hook at regular intervals."""
        self.channel.beat_if_allowed()

    def retry_pending_acks(self) -> None:
        """Repeat the acknowledgements that Redis did not confirm. Raises RedisError."""
        for _ in range(len(self._pending_acks)):
            slot, requeue = self._pending_acks[0]
            self._acknowledge(slot, requeue=requeue)
            self._pending_acks.popleft()
        for slot in self._abandoned:
            self._acknowledge(slot, requeue=True)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's
        """Requeue every held message now; if Redis is unavailable, a later heartbeat does it."""
        self._on_collect.cancel()
        held = [slot for slots in self._held.values() for slot in slots]
        self._pending_acks.extend((slot, True) for slot in held)
        self._held.clear()
        self._delivered.clear()
        self._delivered.restored = True
        if held:
            log.info("Requeuing %s messages", len(held))
        try:
            self.retry_pending_acks()
        except (RedisError, OSError) as error:
            if self._pending_acks:
                count = len(self._pending_acks)
                log.warning(
                    "Redis has not requeued %s messages yet; it will later: %s", count, error
                )


class QueueReceiver(redis.Channel):
    """The connection that waits for one queue: BLMOVE accepts only one source."""

    RETRY = 1.0
    """Seconds to pause after Redis refused a command, for example because it is read-only."""

    def __init__(self, channel: "Channel", queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._slot: str | None = None
        self._sent = False
        self._full = False
        self._not_before = 0.0
        super().__init__(channel.connection)
        self._active_queues.append(queue)

    @property
    def qos(self) -> "QueueReceiver":
        """Return the object that kombu asks whether it may consume: this one, for its own queue."""
        return self

    def can_consume(self) -> bool:
        """Return whether the worker may hold one more message of this queue."""
        return bool(self._channel.qos.has_room(self._queue))

    def restore_visible(self, *_: object, **__: object) -> None:
        """Send the heartbeat; kombu calls this hook at regular intervals."""
        self._channel.beat_if_allowed()

    def _brpop_start(self, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's
        if time.monotonic() < self._not_before:
            return
        try:
            self._channel.stay_alive()
        except ResponseError as error:
            self._refused(error)
            return
        if self._sent and self._slot is not None:
            self._channel.qos.abandon_slot(self._slot)
            self._slot = None
        if self._slot is None:
            self._slot = self._channel.qos.reserve(self._queue)
        move = (self._queue, self._slot, "RIGHT", "LEFT")
        blocking = ("BLMOVE", *move, self.brpop_timeout)
        command = ("EVAL", _MOVE, 2, *move) if self._full else blocking
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self._sent = True
        self.client.connection.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        connection = self.client.connection
        try:
            raw = self.client.parse_response(connection, "BLMOVE", **options)
        except ResponseError as error:
            self._sent = False
            self._refused(error)
            raise Empty from error
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        self._sent = False
        if raw is None:
            self._wait_for_room()
            raise Empty
        taken = TakenMessage(raw, self._slot or "", self._queue)
        self._slot = None
        self._full = False
        self.connection._deliver(taken, self._queue)  # noqa: SLF001 - kombu's
        return True

    def _refused(self, error: ResponseError) -> None:
        """Log that Redis refuses (full, read-only or forbidden), and set how to try again."""
        self._channel.warn_throttled(f"Redis refuses to hand out messages of {self._queue}", error)
        self._full = "OOM" in str(error) or "maxmemory" in str(error)
        if not self._full:
            self._not_before = time.monotonic() + self.RETRY

    def _wait_for_room(self) -> None:
        if self._full:
            # The queue is empty. After a pause, try BLMOVE again: the script does not block.
            self._full = False
            self._not_before = time.monotonic() + self.RETRY

    def pause(self, seconds: float) -> None:
        """Ask for no more messages for so long; one that was asked for already may still come."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def close(self) -> None:
        """Close without waiting for a reply; the channel requeues a message that still arrives."""
        self._in_poll = None
        if self._slot is not None and self._sent:
            self._channel.qos.abandon_slot(self._slot)
            self._slot = None
        super().close()


class Channel(redis.Channel):
    """A worker's channel: one receiver for each queue, and one record of what is held."""

    QoS = QoS
    Message = Message
    from_transport_options = (*redis.Channel.from_transport_options, "instance", "recovered")
    instance = uuid4().hex
    recovered: Callable[[int], None] = staticmethod(lambda _: None)
    """Called with the number of messages of lost workers that were requeued."""
    _numbers = itertools.count()
    _warned_at: ClassVar[dict[str, float]] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        self._receivers: dict[str, QueueReceiver] = {}
        self._last_beat = float("-inf")
        super().__init__(*args, **options)
        self.taker = f"{self.instance}/{next(self._numbers)}"
        # For commands that return at once; late acknowledgements may outlive the channel.
        self.sync = self._create_client()

    @property
    def active_queues(self) -> list[str]:
        """Return no queues for kombu's own BRPOP: the receivers serve them."""
        return []

    def basic_consume(self, queue: str, *args: Any, **options: Any) -> Any:
        consuming = super().basic_consume(queue, *args, **options)
        if queue not in self._fanout_queues and queue not in self._receivers:
            self._receivers[queue] = QueueReceiver(self, queue)
        return consuming

    def _basic_cancel(self, consumer_tag: str) -> Any:
        receiver = self._receivers.pop(self._tag_to_queue.get(consumer_tag, ""), None)
        if receiver is not None:
            receiver.close()
        return super()._basic_cancel(consumer_tag)

    def _queue_bind(self, *args: Any, **options: Any) -> None:
        try:
            super()._queue_bind(*args, **options)
        except ResponseError as error:
            # Our queues work without the binding, and a worker must start on a full Redis.
            self.warn_throttled(
                "Redis did not store the binding of a queue; the queue works without it", error
            )

    def pause_work(self, seconds: float) -> None:
        """Receive only lookups for so long."""
        for queue, receiver in self._receivers.items():
            if queue != Queue.LOOKUPS:
                receiver.pause(seconds)

    def stay_alive(self) -> None:
        """Renew the lease, if necessary, before messages are received. Raises RedisError."""
        if time.monotonic() - self._last_beat > LEASE_SECONDS / 2:
            self.beat()

    def beat(self) -> None:
        """Send a heartbeat, and requeue the messages of lost workers. Raises RedisError."""
        queues = [queue.value for queue in Queue]
        requeued = self.sync.eval(_HEARTBEAT, 0, PREFIX, self.taker, LEASE_SECONDS, SLOTS, *queues)
        self._last_beat = time.monotonic()
        if requeued:
            self.recovered(requeued)
        self.qos.retry_pending_acks()

    def beat_if_allowed(self) -> None:
        """Send a heartbeat; if Redis refuses it, only warn: reconnecting would not help."""
        try:
            self.beat()
        except ResponseError as error:
            self.warn_throttled(
                "Redis refuses the heartbeat; other workers may take over this worker's messages",
                error,
            )

    def warn_throttled(self, what: str, error: ResponseError) -> None:
        """Log a warning, but the same one only once in `WARNING_PAUSE`."""
        warning = f"{what} {type(error).__name__}"
        if time.monotonic() - self._warned_at.get(warning, float("-inf")) > WARNING_PAUSE:
            self._warned_at[warning] = time.monotonic()
            log.warning("%s: %s", what, error)

    def close(self) -> None:
        for receiver in self._receivers.values():
            receiver.close()
        self._receivers.clear()
        super().close()


class Transport(redis.Transport):
    """kombu's Redis transport, where a received message stays in Redis until acknowledged."""

    Channel = Channel
