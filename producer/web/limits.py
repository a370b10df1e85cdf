"""What every HTTP request passes before a route sees it: an id, bounds, security headers."""

import asyncio
import ipaddress
import json
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from producer.publishing.connection import CALL_ID
from producer.web.problems import Refused, problem

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


class RequestLimits:
    """ASGI middleware. `rate` is requests a second and caller, 0 for no bound.

    `body_wait` is how many seconds the next piece of a body is waited for.

    With `local` nobody shows a token: then it must be made sure that it is a program or a page
    of this machine, and not a page of the web in this machine's browser.
    """

    def __init__(
        self,
        app: Asgi,
        *,
        max_upload: int,
        max_running: int,
        rate: int,
        body_wait: float,
        local: bool,
    ) -> None:
        self._app = app
        self._local = local
        self._max_upload = max_upload
        self._max_running = max_running
        self._rate = rate
        self._body_wait = body_wait
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

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-request-id", call_id.encode()), *_HEADERS]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        limit = self._max_upload if scope["path"] == "/batches" else SMALL_BODY
        foreign = _cross_site_reason(headers) if self._local else None
        if foreign is not None:
            await _refuse(sending, 403, "foreign", foreign)
            return
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            said = f"A body is taken as it is, not as {encoding.decode('latin-1')[:40]}."
            await _refuse(sending, 415, "unsupported_encoding", said)
            return
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            await _refuse(sending, 413, "too_large", f"At most {limit} bytes are taken here.")
            return
        if self._running >= self._max_running or self._is_too_fast(scope):
            await _refuse(sending, 429, "too_many_requests", "Slow down, and try again.")
            return
        self._running += 1
        try:
            await self._app(scope, _bounded(receive, limit, self._body_wait), sending)
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


def _bounded(receive: Receive, limit: int, wait: float) -> Receive:
    """Gives the body on; what breaks its bounds is raised where the application reads it."""
    taken, whole = 0, False

    async def receiving() -> Any:
        nonlocal taken, whole
        try:
            # After the body only the end of the connection is waited for.
            message = await asyncio.wait_for(receive(), None if whole else wait)
        except TimeoutError:
            said = f"Nothing of the body came for {wait:g} s; send it again."
            raise Refused(408, "body_timeout", said, Connection="close") from None
        whole = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > limit:
            said = f"At most {limit} bytes are taken here."
            raise Refused(413, "too_large", said, Connection="close")
        return message

    return receiving


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


def _cross_site_reason(headers: dict[bytes, bytes]) -> str | None:
    """Why a call did not come from a program or a page of this machine; None if it did."""
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", f"http://{host}".encode("latin-1")).decode("latin-1")
    try:
        local, same = (
            is_loopback(urlsplit(f"//{host}").hostname or ""),
            urlsplit(origin).netloc == host,
        )
    except ValueError:
        local = same = False
    if not local:
        # A name of the web that was made to point here.
        return "Without tokens this service is called localhost, 127.0.0.1 or [::1] only."
    return None if same else "Without tokens pages of other sites may not call this service."


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
