"""kombu's Redis transport, but that it does not make a client for each message."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel with one client; to make one takes as long as Redis takes for a message."""

    _made: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """The client that is given, or the channel's own, as long as its connections are."""
        if client is None and (self._made is None or self._made.connection_pool is not self.pool):
            self._made = self._create_client()
        yield client or self._made


class Transport(redis.Transport):  # type: ignore[misc]
    """What the client publishes through (`broker_transport`)."""

    Channel = Channel
