"""Bound the heads of HTTP messages, in bytes and in time; uvicorn itself bounds neither."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD: Final = 65_536
"""The largest request line with headers, in bytes. At most one piece of a larger one is read."""

HEAD_SECONDS: Final = 10.0
"""Seconds from a new connection, or from the first byte of a message, to the end of its headers."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed if a head, or what follows a body, is too large or too slow."""

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self._is_in_body = False
        self._unread = 0
        """Bytes since a head was complete, or since the latest piece of a body."""
        self._deadline: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        if not self._is_in_body:
            self._await_head()
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        """Note that the body follows."""
        self._cancel_deadline()
        self._is_in_body = True
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note a piece of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the next head may follow."""
        self._is_in_body = False
        self._unread = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._refuse, 408)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int) -> None:
        self._cancel_deadline()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            end = b"connection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + end)
        self.transport.close()
