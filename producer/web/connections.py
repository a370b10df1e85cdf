"""Bound what one connection costs: its heads, calls sent ahead, and responses that are not read.

uvicorn itself bounds none of them.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD: Final = 65_536
"""The largest request line with headers, in bytes. At most one piece of a larger one is read."""

HEAD_SECONDS: Final = 10.0
"""Seconds from a new connection, or from the first byte of a message, to the end of its headers."""


READ_SECONDS: Final = 60.0
"""Seconds in which a caller must read what was sent, also after the connection was closed here."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed if a head, or what follows a body, is too large or too slow.

    It answers one call at a time. A call that is sent before the response to the previous one is
    complete is not read, and the connection is closed after that response. uvicorn would store an
    unlimited number of them, and would not notice that the caller of an earlier one has gone away.
    """

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self._is_in_body = False
        self._unread = 0
        """Bytes since a head was complete, or since the latest piece of a body."""
        self._deadline: asyncio.TimerHandle | None = None
        self._is_ending = False
        """Whether what arrives is not read, because the connection ends with the current call."""
        self._abort: asyncio.TimerHandle | None = None
        # So that every byte that the caller leaves unread pauses writing, and counts.
        transport.set_write_buffer_limits(high=0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._cancel_deadline()
        self._cancel_abort()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the caller time to read what was sent."""
        super().pause_writing()
        if self._abort is None:
            self._abort = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the caller has read it."""
        self._cancel_abort()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        self._unread += len(data)
        if self._is_ending:
            if self._unread > MAX_HEAD:
                self.transport.abort()
            return
        if not self._is_in_body and not self._is_answering():
            self._await_head()
        super().data_received(data)
        if self._unread > MAX_HEAD:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Begin to read a call, unless the previous one is still being answered."""
        if self._is_answering():
            raise _SentAheadError
        super().on_message_begin()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless the response to an earlier call would be disturbed."""
        if self._is_answering() and not self._is_in_body:
            self._cancel_deadline()
            self._is_ending = True
            self.cycle.keep_alive = False
        elif self._is_answering() and self.cycle.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)

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

    def _should_upgrade_to_ws(self) -> bool:
        """Refuse every upgrade: its connection would be beyond all of these bounds."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: any caller can ask for another protocol, and gets an ordinary response."""

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _cancel_abort(self) -> None:
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None

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
        if not self._is_answering():
            end = b"connection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + end)
        self.transport.close()


class _SentAheadError(Exception):
    """A call began to arrive before the response to the previous one was complete."""
