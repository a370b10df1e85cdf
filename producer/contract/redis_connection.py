"""Connect to the Redis that accepts writes, and leave a server that no longer does.

Clients, workers and the kombu inside them connect in this way, to a server behind a fixed name or
to the master that sentinels name. `enroll doctor` examines a server through a plain connection,
because it reports on replicas too.
"""

import time
from typing import Any, ClassVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.exceptions import (
    ConnectionError,  # noqa: A004
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
)
from redis.retry import Retry

from producer.contract.broker_url import SENTINEL, TLS, parse_sentinel_url
from producer.contract.redis_errors import WrongServer, is_broken_protocol, is_wrong_server
from producer.contract.sentinels import MasterLookup

MAX_AGE = 5.0
"""Seconds after which a pooled connection is renewed before its next use.

A replica refuses writes but answers reads, so a connection that only reads would not notice that
its server is no longer the master, or that the name now leads to another server.
"""


class MasterConnection(Connection):
    """A connection that closes when its server is not the master (any more).

    The command then raises WrongServer, after one more attempt over a new connection. All other
    connections of the process are renewed before their next use, because they may lead to the same
    server. `find_master` returns the address of the server; without it, the address is fixed.
    """

    _renewed_after: ClassVar[float] = float("-inf")
    """The time of the last failure; older connections are renewed before their next use."""

    def __init__(self, *, find_master: MasterLookup | None = None, **options: Any) -> None:
        self._find_master = find_master
        self._connected_at = float("-inf")
        super().__init__(**options)
        # No other error is tried again here: the command may have had an effect.
        self.retry = Retry(NoBackoff(), 1, (WrongServer,))

    def connect(self) -> None:
        """Connect if necessary; the pool calls this before each use of a connection."""
        self.leave_if_due()
        super().connect()

    def leave_if_due(self) -> None:
        """Close the connection if it must be renewed; call this only while it is idle."""
        due = self._connected_at <= max(time.monotonic() - MAX_AGE, self._renewed_after)
        if due and self._sock is not None:
            self.disconnect()

    def _connect(self) -> Any:
        if self._find_master is not None:
            self.host, self.port = self._find_master()
        connected_at = time.monotonic()
        try:
            connected = super()._connect()
        except OSError:
            self._distrust()
            raise
        self._connected_at = connected_at
        return connected

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        self.handshake_metadata = dict[str, str]()
        try:
            super().on_connect_check_health(check_health)
        except ResponseError:
            self._check_greeting()  # A sentinel does not even know SELECT.
            raise
        self._check_greeting()

    def _check_greeting(self) -> None:
        """Check the reply to HELLO, which costs no command. Raises ConnectionError, WrongServer."""
        greeting: dict[Any, Any] = dict(self.handshake_metadata or {})
        # Redis names a sentinel only in the mode, Valkey also in the role.
        mode, role = (greeting.get(name.encode(), greeting.get(name)) for name in ("mode", "role"))
        if mode in (b"sentinel", "sentinel"):
            raise ConnectionError(
                f"{self.host}:{self.port} is a sentinel; write its URL in the form"
                f" sentinel://{self.host}:{self.port}/0?master_name=NAME"
            )
        if role in (b"replica", "replica"):
            self._distrust()
            raise WrongServer(f"{self.host}:{self.port} is a replica, and not the master")

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Raises WrongServer; ConnectionError for a broken protocol; RedisError."""
        try:
            return super().read_response(*args, **options)
        except (RedisError, ValueError) as error:
            if is_wrong_server(error):
                self._distrust()
                self.disconnect()
                raise WrongServer(f"{self.host}:{self.port}: {error}") from error
            if is_broken_protocol(error):
                self.disconnect()
                raise ConnectionError(
                    f"{self.host}:{self.port} does not speak Redis's protocol: {error!a}"
                ) from error
            if isinstance(error, ConnectionError | TimeoutError):
                self._distrust()
            raise

    def _distrust(self) -> None:
        """Renew every connection before its next use, and ask another sentinel next time."""
        MasterConnection._renewed_after = time.monotonic()
        if self._find_master is not None:
            self._find_master.ask_another()


class MasterTlsConnection(MasterConnection, SSLConnection):
    """A `MasterConnection` over TLS."""


def connection_options(url: str) -> dict[str, Any]:
    """Return the options of redis-py's `ConnectionPool` for a URL that was already checked."""
    if url.startswith(SENTINEL):
        address = parse_sentinel_url(url)
        # The host and port are replaced at each connection.
        options = parse_url(address.server("the-master", 0))
        options["find_master"] = MasterLookup(address)
    else:
        options = parse_url(url)
    tls = url.startswith(TLS)
    return {**options, "connection_class": MasterTlsConnection if tls else MasterConnection}


def connect_redis(url: str, **options: Any) -> "Redis":
    """Return a client of the Redis at a URL, which connects when it is used.

    `options` are those of redis-py's `ConnectionPool`, such as `socket_timeout`.
    """
    return Redis.from_pool(ConnectionPool(**{**options, **connection_options(url)}))
