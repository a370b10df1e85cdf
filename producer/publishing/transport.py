"""Change kombu's Redis transport so that it does not create a new client for each message."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis

from producer.contract import redis_channel


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


class Transport(redis.Transport):  # type: ignore[misc]
    """The transport that the client publishes through (`broker_transport`)."""

    Channel = Channel
