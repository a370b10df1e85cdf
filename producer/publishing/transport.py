"""Change kombu's Redis transport so that it does not create a new client for each message.

It can also write a mark in the round trip that publishes a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from kombu.transport import redis
from kombu.utils.json import dumps

from producer.contract import redis_channel
from producer.contract.marks import MARK_SECONDS


@dataclass
class MarkBefore:
    """The mark that is written before the next message is published, and what came of it."""

    key: str
    text: str
    queued: int | None = None
    """How many messages are in the queue then; None until the message is published."""


_MARK_BEFORE: Final[ContextVar[MarkBefore | None]] = ContextVar("mark_before", default=None)


@contextmanager
def marking(key: str, text: str) -> Iterator[MarkBefore]:
    """Write a mark in the round trip that publishes the message; yield what comes of it."""
    mark = MarkBefore(key, text)
    token = _MARK_BEFORE.set(mark)
    try:
        yield mark
    finally:
        _MARK_BEFORE.reset(token)


class Channel(redis_channel.Channel):
    """A channel that reuses one client; creating one takes as long as sending a message."""

    _own_client: Any = None

    def _after_fork(self) -> None:
        """Leave the connections to the parent; `BrokerConnection` makes others.

        kombu would close them, and could wait for ever for a lock that the parent held.
        """

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Yield the given client, or the channel's own, which is recreated if the pool changes."""
        own = self._own_client
        if client is None and (own is None or own.connection_pool is not self.pool):
            self._own_client = self._create_client()
        yield client or self._own_client

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        mark = _MARK_BEFORE.get()
        if mark is None:
            super()._put(queue, message, **options)
            return
        self._put_with_mark(self.global_keyprefix + queue, dumps(message), mark)

    def _put_with_mark(self, key: str, text: str, mark: MarkBefore) -> None:
        """Send both commands on a connection: a pipeline of redis-py takes twice as long."""
        connection = self.pool.get_connection()
        commands = [("SET", mark.key, mark.text, "EX", MARK_SECONDS), ("LPUSH", key, text)]

        def send() -> list[Any]:
            connection.send_packed_command(connection.pack_commands(commands))
            return [connection.read_response() for _ in commands]

        try:
            # As for any other command, the server may be another one after a failover.
            _, mark.queued = connection.retry.call_with_retry(
                send, lambda _: connection.disconnect()
            )
        except BaseException:
            connection.disconnect()  # A reply that was not read must not be taken for a later one.
            raise
        finally:
            self.pool.release(connection)


class Transport(redis.Transport):  # type: ignore[misc]
    """The transport that the client publishes through (`broker_transport`)."""

    Channel = Channel
