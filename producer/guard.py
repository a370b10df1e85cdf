"""What every HTTP request passes before a route sees it: an id, bounds, security headers."""

import json
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from producer.client import CALL_ID
from producer.problems import problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

SMALL_BODY = 1_048_576
"""Bytes of a body that is not an upload; a request of a hundred courses has some kilobytes."""

_CALL_ID = re.compile(r"[\w.-]{1,64}")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class _TooLarge(Exception):
    pass


class Guard:
    """ASGI middleware. `rate` is requests a second and caller, 0 for no bound."""

    def __init__(self, app: Asgi, *, max_upload: int, max_running: int, rate: int) -> None:
        self._app = app
        self._max_upload = max_upload
        self._max_running = max_running
        self._rate = rate
        self._running = 0
        self._second = 0
        self._calls: defaultdict[str, int] = defaultdict(int)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"").decode("latin-1")
        call_id = sent if _CALL_ID.fullmatch(sent) else uuid.uuid4().hex
        CALL_ID.set(call_id)
        # Routes see the path as it was sent: a SIS id may hold a slash.
        scope["path"] = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
        started = False

        async def sending(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                extra = [(b"x-request-id", call_id.encode()), *_HEADERS]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        limit = self._max_upload if scope["path"] == "/batches" else SMALL_BODY
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            await _refuse(sending, 413, "too_large", f"At most {limit} bytes are taken here.")
            return
        if self._running >= self._max_running or self._is_too_fast(scope):
            await _refuse(sending, 429, "too_many_requests", "Slow down, and try again.")
            return
        self._running += 1
        try:
            await self._app(scope, _bounded(receive, limit), sending)
        except _TooLarge:
            if started:
                raise
            await _refuse(sending, 413, "too_large", f"At most {limit} bytes are taken here.")
        finally:
            self._running -= 1

    def _is_too_fast(self, scope: Scope) -> bool:
        if not self._rate:
            return False
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._calls.clear()
        caller = (scope.get("client") or ("",))[0]
        self._calls[caller] += 1
        return self._calls[caller] > self._rate


def _bounded(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def receiving() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise _TooLarge
        return message

    return receiving


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    body = json.dumps(problem(status, code, detail)).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
