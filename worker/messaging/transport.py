"""Messages are taken from Redis without a gap, and come back when their worker is lost.

kombu's own transport pops a message and only then notes that it holds it: what was popped is lost
with a worker that is killed in between. Here Redis itself moves each message into a slot, a list
of one that belongs to its worker; acknowledging deletes the slot, and whatever lies in the slots
of a worker that no longer says that it lives goes back to its queue. Relies on the private parts
of kombu that `tests/unit/test_transport.py` names.
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
"""Seconds, of Redis's clock, after which a worker that gave no sign of life is lost."""

HEARTBEAT_SECONDS = 2
"""Seconds between two signs of life; what the lost held is looked for as often."""

WARNING_PAUSE = 30.0
"""Seconds between two lines of the log that say the same."""

SLOTS = 1024
"""Messages of one queue that a worker can hold."""

PREFIX = "enrollment.intake"
TAKERS = f"{PREFIX}.takers"
ATTEMPTS = f"{PREFIX}.attempts"
"""The hash that counts failed attempts by task id; see `worker.messaging.attempts`."""


def running_key(instance: str) -> str:
    """The hash of the task ids that a worker is executing."""
    return f"{PREFIX}.running.{instance}"


_SCRIPTS = files("worker.messaging")
_MOVE = _SCRIPTS.joinpath("move.lua").read_text(encoding="ascii")
_HEARTBEAT = _SCRIPTS.joinpath("heartbeat.lua").read_text(encoding="ascii")


class TakenMessage(NamedTuple):
    """A message as it lay in the queue, and the slot in which it lies now."""

    raw: bytes
    slot: str
    queue: str


class Message(virtual.Message):
    """A message whose envelope was checked: `fault` says why it cannot be understood."""

    def __init__(
        self, payload: TakenMessage | dict[str, Any], channel: Any = None, **options: Any
    ) -> None:
        self.raw: bytes | None = None
        self.fault: str | None = None
        if not isinstance(payload, TakenMessage):
            # Published to all, as Celery's events are, and taken from no queue.
            super().__init__(payload, channel=channel, **options)
            return
        self.raw = payload.raw
        try:
            envelope = open_envelope(payload.raw)
        except MalformedMessage as error:
            self.fault, envelope = str(error), {"headers": {}, "properties": {}}
        # Whatever the sender says of its delivery, this is how it came.
        delivery = {"exchange": "", "routing_key": payload.queue}
        properties = {"delivery_tag": payload.slot, "delivery_info": delivery}
        envelope = {**envelope, "properties": {**envelope["properties"], **properties}}
        super().__init__(envelope, channel=channel, **options)


class QoS(virtual.QoS):
    """What a worker holds. An acknowledgement that Redis does not take is made good later."""

    prefetch_count: int

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._queues: dict[str, str] = {}
        self._free: dict[str, deque[str]] = {}
        self._owed: deque[tuple[str, bool]] = deque()
        self._abandoned: list[str] = []

    def has_room(self, queue: str) -> bool:
        """Each queue has the whole limit, so that none waits for another.

        The requests that are held for groups raise the limit; the other queues get nothing of it.
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
        """A free slot. Raises ConnectionError where all are used up: a new connection has more."""
        if not self._slots(queue):
            raise ConnectionError(f"No slots are left for {queue}")
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
            self._pay(slot, requeue=requeue)
        except (RedisError, OSError) as error:
            # Not used again: what Redis was told, it may still do, whenever it wakes.
            log.warning("Redis did not take an acknowledgement, it is repeated: %s", error)
            self._owed.append((slot, requeue))
        else:
            self._slots(self._queues[slot]).append(slot)

    def _pay(self, slot: str, *, requeue: bool) -> None:
        if requeue:
            self.channel.sync.eval(_MOVE, 2, slot, self._queues[slot], "LEFT", "RIGHT")
        else:
            self.channel.sync.unlink(slot)

    def abandon_slot(self, slot: str) -> None:
        """Nobody knows whether a message came, or comes, into this slot: it is emptied for good."""
        self._abandoned.append(slot)

    def restore_visible(self, *_: object, **__: object) -> None:
        """Kombu's hook for what is to be done now and then."""
        self.channel.beat_if_allowed()

    def retry_pending_acks(self) -> None:
        """Repeat what Redis did not take. Raises RedisError."""
        for _ in range(len(self._owed)):
            slot, requeue = self._owed[0]
            self._pay(slot, requeue=requeue)
            self._owed.popleft()
        for slot in self._abandoned:
            self._pay(slot, requeue=True)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002 - kombu's
        """Give everything back at once; where Redis is away, the lease does it."""
        self._on_collect.cancel()
        held = [slot for slots in self._held.values() for slot in slots]
        self._owed.extend((slot, True) for slot in held)
        self._held.clear()
        self._delivered.clear()
        self._delivered.restored = True
        if held:
            log.info("Giving back %s messages", len(held))
        try:
            self.retry_pending_acks()
        except (RedisError, OSError) as error:
            if self._owed:
                log.warning("%s messages come back later: %s", len(self._owed), error)


class QueueReceiver(redis.Channel):
    """The connection that waits for one queue: BLMOVE knows one source only."""

    RETRY = 1.0
    """Seconds until Redis is asked again after it refused, as a full or a read-only one does."""

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
        """What kombu asks whether more may be taken: the channel knows, for each queue."""
        return self

    def can_consume(self) -> bool:
        """Whether the worker may hold one more message of this queue."""
        return bool(self._channel.qos.has_room(self._queue))

    def restore_visible(self, *_: object, **__: object) -> None:
        """Kombu's hook for what is to be done now and then."""
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
        ask = ("EVAL", _MOVE, 2, *move) if self._full else ("BLMOVE", *move, self.brpop_timeout)
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self._sent = True
        self.client.connection.send_command(*ask)

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
        """Redis is full, read-only or forbids it; it is asked again, as long as it takes."""
        self._channel.warn_throttled(f"Redis lets nobody take from {self._queue}", error)
        self._full = "OOM" in str(error) or "maxmemory" in str(error)
        if not self._full:
            self._not_before = time.monotonic() + self.RETRY

    def _wait_for_room(self) -> None:
        if self._full:
            # The script does not block; after a while Redis may have room for BLMOVE again.
            self._full = False
            self._not_before = time.monotonic() + self.RETRY

    def close(self) -> None:
        """Without waiting for an answer; what it may bring is looked for by the channel."""
        self._in_poll = None
        if self._slot is not None and self._sent:
            self._channel.qos.abandon_slot(self._slot)
            self._slot = None
        super().close()


class Channel(redis.Channel):
    """A worker's channel: a taker for each queue, one account of what is held."""

    QoS = QoS
    Message = Message
    from_transport_options = (*redis.Channel.from_transport_options, "instance", "recovered")
    instance = uuid4().hex
    recovered: Callable[[int], None] = staticmethod(lambda _: None)
    """Told how many messages of the lost were given back."""
    _numbers = itertools.count()
    _complained: ClassVar[dict[str, float]] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        self._takers: dict[str, QueueReceiver] = {}
        self._beaten = float("-inf")
        super().__init__(*args, **options)
        self.taker = f"{self.instance}/{next(self._numbers)}"
        # For what is answered at once; what a task acknowledges late outlives the channel.
        self.sync = self._create_client()

    @property
    def active_queues(self) -> list[str]:
        """None for kombu's own BRPOP: the takers have them."""
        return []

    def basic_consume(self, queue: str, *args: Any, **options: Any) -> Any:
        consuming = super().basic_consume(queue, *args, **options)
        if queue not in self._fanout_queues and queue not in self._takers:
            self._takers[queue] = QueueReceiver(self, queue)
        return consuming

    def _basic_cancel(self, consumer_tag: str) -> Any:
        taker = self._takers.pop(self._tag_to_queue.get(consumer_tag, ""), None)
        if taker is not None:
            taker.close()
        return super()._basic_cancel(consumer_tag)

    def _queue_bind(self, *args: Any, **options: Any) -> None:
        try:
            super()._queue_bind(*args, **options)
        except ResponseError as error:
            # Our queues are reached by their names; a worker must start on a full Redis too.
            self.warn_throttled("A queue could not be bound", error)

    def stay_alive(self) -> None:
        """Before anything is taken, its taker must be known to live. Raises RedisError."""
        if time.monotonic() - self._beaten > LEASE_SECONDS / 2:
            self.beat()

    def beat(self) -> None:
        """Give a sign of life, and give back what the lost held. Raises RedisError."""
        queues = [queue.value for queue in Queue]
        back = self.sync.eval(_HEARTBEAT, 0, PREFIX, self.taker, LEASE_SECONDS, SLOTS, *queues)
        self._beaten = time.monotonic()
        if back:
            self.recovered(back)
        self.qos.retry_pending_acks()

    def beat_if_allowed(self) -> None:
        """The same, but a Redis that refuses is asked again later: connecting anew is no help."""
        try:
            self.beat()
        except ResponseError as error:
            self.warn_throttled("Redis refuses a sign of life", error)

    def warn_throttled(self, what: str, error: ResponseError) -> None:
        """Say it in the log, once in a while."""
        this = f"{what} {type(error).__name__}"
        if time.monotonic() - self._complained.get(this, float("-inf")) > WARNING_PAUSE:
            self._complained[this] = time.monotonic()
            log.warning("%s: %s", what, error)

    def close(self) -> None:
        for taker in self._takers.values():
            taker.close()
        self._takers.clear()
        super().close()


class Transport(redis.Transport):
    """kombu's Redis, but that what is taken stays in Redis until it is acknowledged."""

    Channel = Channel
