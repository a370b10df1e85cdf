"""Read giant messages from Redis in pieces, so that none is ever held as a whole.

A message can be as large as Redis allows, half a gigabyte by default, and nothing stops a client
from sending one. This module relies on private parts of redis-py and kombu, which
tests/unit/worker/messaging/test_piecewise.py names.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from redis._parsers import _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.utils import SENTINEL

from producer.contract import redis_channel
from worker.messaging.giants import BEGINNING, MAX_WHOLE, Beginning


class _Buffer(SocketBuffer):
    """The buffer of a connection; `read` returns the `Beginning` of a giant in its place."""

    between_pieces: Callable[[], object] = staticmethod(lambda: None)

    def read(self, length: int, timeout: Any = SENTINEL) -> bytes:
        if length <= MAX_WHOLE:
            return super().read(length, timeout)
        beginning = Beginning.of(self._pieces(length, timeout))
        super().read(0, timeout)  # The end of the line.
        return beginning

    def _pieces(self, length: int, timeout: Any) -> Iterator[bytes]:
        while length:
            piece: bytes = self._buffer.read(min(length, BEGINNING))
            length -= len(piece)
            if piece:
                yield piece
            else:
                self.purge()  # Everything in it was read.
                self._read_from_socket(timeout=timeout)
                self.between_pieces()


class _Parser(_RESP3Parser):
    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        sock, timeout = connection._sock, connection.socket_timeout  # noqa: SLF001 - as in redis-py
        self._buffer = _Buffer(sock, self.socket_read_size, timeout)


OPTIONS: Final[dict[str, Any]] = {"parser_class": _Parser, "protocol": 3}
"""The options of a connection to Redis that reads giants in pieces."""


class PiecewiseChannel(redis_channel.Channel):
    """A channel with connections that read giants in pieces."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's
        return {**super()._connparams(asynchronous), **OPTIONS}


def keep_alive(connection: Any, between_pieces: Callable[[], object]) -> None:
    """Call a function again and again while an open connection reads a giant."""
    connection._parser._buffer.between_pieces = between_pieces  # noqa: SLF001 - a parser of ours
