"""Receive messages from Redis so that none is lost, and requeue those of lost workers.

docs/reliability.md explains why kombu's own transport is not enough. Here Redis itself moves each
message into a slot: a list that belongs to the worker and holds one message. Acknowledging a
message deletes its slot. When a worker's heartbeat stops, another worker moves the contents of its
slots back to their queues.

This module relies on private parts of kombu, which tests/unit/worker/messaging/test_transport.py
names.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from itertools import repeat
from queue import Empty
from socket import gethostname
from typing import Any, ClassVar
from uuid import uuid4

from kombu.transport import redis
from redis import Redis
from redis.exceptions import RedisError

from producer.contract import redis_channel
from producer.contract.keys import KNOWS_DROPS, Keys, count_waiting
from producer.contract.redis_errors import REFUSALS
from producer.contract.routing import Queue
from worker.messaging.piecewise import PiecewiseChannel, keep_alive
from worker.messaging.slots import MOVE, SLOTS, QoS
from worker.messaging.taken import Message, TakenMessage
from worker.messaging.taking import Command, count_at_once, take_several

log = logging.getLogger(__name__)

LEASE_SECONDS = 8
"""Seconds, by Redis's clock, without a heartbeat after which a worker counts as lost."""

HEARTBEAT_SECONDS = 2
"""Seconds between two heartbeats. Each heartbeat also looks for the messages of lost workers."""

WARNING_PAUSE = 30.0
"""Seconds between two log lines with the same warning."""

MOVED_AT_ONCE = 100
"""The most messages with a priority that one command moves: Redis does nothing else meanwhile."""

MOVING_SECONDS = 0.1
"""After this many seconds, a heartbeat moves no further messages with a priority."""

_SCRIPTS = files("worker.messaging")
_HEARTBEAT = _SCRIPTS.joinpath("heartbeat.lua").read_text(encoding="ascii")
_ABOUT = f"{version('enrollment-worker')} {gethostname()} {KNOWS_DROPS}"
_PRIORITIES = _SCRIPTS.joinpath("priorities.lua").read_text(encoding="ascii")


class QueueReceiver(PiecewiseChannel):
    """The connection that waits for one queue: BLMOVE accepts only one source."""

    RETRY = 1.0
    """Seconds to pause after Redis refused a command, for example because it is read-only."""

    def __init__(self, channel: "Channel", queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._slots: list[str] = []
        """Reserved slots; the first ones are those of the command that waits for its reply."""
        self._sent = 0
        """For how many slots this command is; 0 if there is none."""
        self._is_drained = True
        """Whether the last command found fewer messages than it could take."""
        self._may_take_several = True
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
        except REFUSALS as error:
            self._refused(error)
            return
        self._abandon_sent()
        command = self._next_command()
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self.client.connection.send_command(*command)
        keep_alive(self.client.connection, self._channel.stay_alive)

    def _next_command(self) -> Command:
        """Reserve slots, and return the command that moves messages into them."""
        qos, key = self._channel.qos, self._channel.keys.queue(self._queue)
        at_once = count_at_once(self._queue, qos.count_held(self._queue))
        alone = self._is_drained or self._full or not self._may_take_several
        self._sent = 1 if alone else at_once
        while len(self._slots) < self._sent:
            self._slots.append(qos.reserve(self._queue))
        if self._sent > 1:
            return take_several(key, self._slots[: self._sent], self._queue)
        move = (key, self._slots[0], "RIGHT", "LEFT")
        return ("EVAL", MOVE, 2, *move) if self._full else ("BLMOVE", *move, self.brpop_timeout)

    def _abandon_sent(self) -> None:
        """Retire the slots of a command without a reply: messages may still arrive in them."""
        for slot in self._slots[: self._sent]:
            self._channel.qos.abandon_slot(slot)
        del self._slots[: self._sent]
        self._sent = 0

    def _brpop_read(self, **options: Any) -> bool:
        connection = self.client.connection
        try:
            reply = self.client.parse_response(connection, "BLMOVE", **options)
        except REFUSALS as error:
            several, self._sent = self._sent > 1, 0
            self._refused(error, several=several)
            raise Empty from error
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        messages = reply if isinstance(reply, list) else [] if reply is None else [reply]
        self._is_drained = len(messages) < self._sent
        self._sent = 0
        if not messages:
            self._wait_for_room()
            connection.leave_if_due()
            raise Empty
        self._full = False
        self._deliver(messages)
        return True

    def _deliver(self, messages: Sequence[bytes]) -> None:
        """Deliver what is in the first slots; if a message cannot be, requeue those after it."""
        slots, self._slots = self._slots[: len(messages)], self._slots[len(messages) :]
        taken = deque(map(TakenMessage, messages, slots, repeat(self._queue)))
        try:
            while taken:
                self.connection._deliver(taken.popleft(), self._queue)  # noqa: SLF001 - kombu's
        finally:
            for message in taken:
                self._channel.qos.abandon_slot(message.slot)

    def _refused(self, error: RedisError, *, several: bool = False) -> None:
        """Log that Redis refuses (full, read-only or forbidden), and decide how to try again.

        If it refuses several messages, for example because its rules are those of an older version,
        this connection takes them one by one.
        """
        if several:
            self._may_take_several = False
            self._channel.warn_throttled(
                f"Redis hands out messages from {self._queue} one by one", error
            )
            return
        self._channel.warn_throttled(
            f"Redis refuses to hand out messages from {self._queue}", error
        )
        self._full = "OOM" in str(error) or "maxmemory" in str(error)
        if not self._full:
            self._not_before = time.monotonic() + self.RETRY

    def _wait_for_room(self) -> None:
        if self._full:
            # The queue is empty. The script, unlike BLMOVE, does not block, so pause before the
            # next BLMOVE.
            self._full = False
            self._not_before = time.monotonic() + self.RETRY

    def pause(self, seconds: float) -> None:
        """Ask for no messages for this many seconds; one already asked for may still arrive."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def close(self) -> None:
        """Close without waiting for a reply; the channel requeues a message that still arrives."""
        self._in_poll = None
        self._abandon_sent()
        super().close()


class Channel(PiecewiseChannel):
    """A worker's channel: one receiver for each queue, and one record of what is held."""

    QoS = QoS
    Message = Message
    from_transport_options = (
        *redis_channel.Channel.from_transport_options,
        "instance",
        "recovered",
    )
    instance = uuid4().hex
    recovered: Callable[[int], None] = staticmethod(lambda _: None)
    """Called with the number of messages of lost workers that were requeued."""
    _numbers = itertools.count()
    _warned_at: ClassVar[dict[str, float]] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        self._receivers: dict[str, QueueReceiver] = {}
        self._last_beat = float("-inf")
        super().__init__(*args, **options)
        self.keys = Keys(self.global_keyprefix)
        self.taker = f"{self.instance}/{next(self._numbers)}"
        # For commands that return at once, such as late acknowledgements, which may outlive the
        # channel. Our keys have the prefix; kombu's own client would add it once more to the
        # commands that it knows.
        self.sync = Redis(connection_pool=self.pool)

    @property
    def active_queues(self) -> list[str]:
        """Return no queues for kombu's own BRPOP: the receivers serve them."""
        return []

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,  # noqa: FBT001 - kombu's
        callback: Callable[[Any], Any],
        *args: Any,
        **options: Any,
    ) -> Any:
        if queue in self._fanout_queues:
            return super().basic_consume(queue, no_ack, callback, *args, **options)

        def acknowledge_first(message: Any) -> Any:
            self.qos.ack(message.delivery_tag)
            return callback(message)

        on_message = acknowledge_first if no_ack else callback
        consuming = super().basic_consume(queue, False, on_message, *args, **options)
        if queue not in self._receivers:
            self._receivers[queue] = QueueReceiver(self, queue)
        return consuming

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:  # noqa: FBT001, FBT002 - kombu's
        message = super().basic_get(queue, **options)
        if no_ack and message is not None:
            self.qos.ack(message.delivery_tag)
        return message

    def _get(self, queue: str) -> TakenMessage:
        self.stay_alive()
        self.collect_priorities([queue])
        slot = self.qos.reserve(queue)
        try:
            raw = self.sync.eval(MOVE, 2, self.keys.queue(queue), slot, "RIGHT", "LEFT")
        except BaseException:
            self.qos.abandon_slot(slot)
            raise
        if raw is None:
            self.qos.release(slot)
            raise Empty
        return TakenMessage(raw, slot, queue)

    def _size(self, queue: str) -> int:
        with self.sync.pipeline(transaction=False) as pipeline:
            for name in self.keys.waiting(queue):
                pipeline.llen(name)
            return count_waiting(pipeline.execute(raise_on_error=False))

    def _purge(self, queue: str) -> int:
        with self.sync.pipeline() as pipeline:
            for name in self.keys.waiting(queue):
                pipeline.llen(name)
                pipeline.delete(name)
            return sum(pipeline.execute()[::2])

    def _basic_cancel(self, consumer_tag: str) -> Any:
        receiver = self._receivers.pop(self._tag_to_queue.get(consumer_tag, ""), None)
        if receiver is not None:
            receiver.close()
        return super()._basic_cancel(consumer_tag)

    def _queue_bind(self, *args: Any, **options: Any) -> None:
        try:
            super()._queue_bind(*args, **options)
        except REFUSALS as error:
            # Our queues work without the binding, and a worker must start on a full Redis.
            self.warn_throttled(
                "Redis did not store the binding of a queue; the queue works without it", error
            )

    def pause_work(self, seconds: float) -> None:
        """Receive only lookups for this many seconds."""
        for queue, receiver in self._receivers.items():
            if queue != Queue.LOOKUPS:
                receiver.pause(seconds)

    def collect_acks(self, messages: int) -> None:
        """Send the next acknowledgements, this many, in one command."""
        self.qos.collect_acks(messages)

    def note_raised(self, queue: str, messages: int) -> None:
        """Note by how many messages the prefetch limit is raised for this queue alone."""
        self.qos.note_raised(queue, messages)

    def stay_alive(self) -> None:
        """Renew the lease, if necessary, before messages are received. Raises RedisError."""
        if time.monotonic() - self._last_beat > LEASE_SECONDS / 2:
            self.beat()

    def beat(self) -> None:
        """Send a heartbeat, and requeue the messages of lost workers. Raises RedisError."""
        queues = [queue.value for queue in Queue]
        names = (self.keys.intake(), self.keys.queue(""))
        values = (self.taker, LEASE_SECONDS, SLOTS, _ABOUT)
        requeued = self.sync.eval(_HEARTBEAT, 0, *names, *values, *queues)
        self._last_beat = time.monotonic()
        if requeued:
            self.recovered(requeued)
        self.qos.retry_pending_acks()
        self.collect_priorities(dict.fromkeys([*queues, *self._receivers]))

    def collect_priorities(self, queues: Iterable[str]) -> None:
        """Move messages that were published with a priority to their queues.

        If Redis refuses it, only warn. Raises RedisError.
        """
        end = time.monotonic() + MOVING_SECONDS
        try:
            for queue in queues:
                lists = self.keys.waiting(queue)
                move = partial(self.sync.eval, _PRIORITIES, len(lists), *lists, MOVED_AT_ONCE)
                while move() == MOVED_AT_ONCE and time.monotonic() < end:
                    pass
        except REFUSALS as error:
            self.warn_throttled(
                "Redis refuses to move messages with a priority to their queues", error
            )

    def beat_if_allowed(self) -> None:
        """Send a heartbeat; if Redis refuses it, only warn: reconnecting would not help."""
        try:
            self.beat()
        except REFUSALS as error:
            self.warn_throttled(
                "Redis refuses the heartbeat; other workers may take over this worker's messages",
                error,
            )

    def warn_throttled(self, what: str, error: RedisError | OSError) -> None:
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
