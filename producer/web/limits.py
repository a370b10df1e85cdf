"""Check every HTTP call before a route sees it, and add an id and security headers to responses."""

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
"""The largest body in bytes, except for uploads; a request for 100 courses has a few kilobytes."""

LIVE = "/health/live"
"""The route that says whether the process answers."""

_CALL_ID = re.compile(r"[\w.-]{1,64}")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class RequestLimits:
    """ASGI middleware that limits the size, the number and the origin of calls.

    `rate` is the number of calls per second and caller, 0 for no limit. `body_wait` is how many
    seconds to wait for the next piece of a body.

    `local` means that callers have no tokens. Then the middleware makes sure that a call comes from
    a program or a page of this machine, not from a foreign web page in this machine's browser.
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
        client_id = headers.get(b"x-request-id", b"").decode("latin-1")
        call_id = client_id if _CALL_ID.fullmatch(client_id) else uuid.uuid4().hex
        CALL_ID.set(call_id)
        # Routes see the path as it was sent, because a SIS id may contain an encoded slash.
        scope["path"] = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(b"x-request-id", call_id.encode()), *_HEADERS]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        limit = self._max_upload if scope["path"] == "/batches" else SMALL_BODY
        refusal = self._find_refusal(scope, headers, limit)
        if refusal is not None:
            await _refuse(send_with_headers, *refusal)
            return
        self._running += 1
        try:
            await self._app(scope, _bounded(receive, limit, self._body_wait), send_with_headers)
        finally:
            self._running -= 1

    def _find_refusal(
        self, scope: Scope, headers: dict[bytes, bytes], limit: int
    ) -> tuple[int, str, str] | None:
        """Return status, code and detail if the call must be refused, else None."""
        cross_site_reason = _cross_site_reason(headers) if self._local else None
        if cross_site_reason is not None:
            return 403, "foreign", cross_site_reason
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            name = encoding.decode("latin-1")[:40]
            return 415, "unsupported_encoding", f"Send the body without Content-Encoding: {name}."
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            return 413, "too_large", _too_large(limit)
        # A busy front must not look dead: it would be restarted in the middle of uploads.
        is_full = self._running >= self._max_running and scope["path"] != LIVE
        if is_full or self._is_too_fast(scope):
            return 429, "too_many_requests", "There are too many calls at once; try again later."
        return None

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
    """Return a `receive` that raises Refused if the body is too large or arrives too slowly."""
    size, complete = 0, False

    async def bounded_receive() -> Any:
        nonlocal size, complete
        try:
            # After the body, only the end of the connection follows, and it may take any time.
            message = await asyncio.wait_for(receive(), None if complete else wait)
        except TimeoutError:
            detail = f"No data arrived for {wait:g} s; send the request again."
            raise Refused(408, "body_timeout", detail, Connection="close") from None
        complete = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > limit:
            raise Refused(413, "too_large", _too_large(limit), Connection="close")
        return message

    return bounded_receive


def _too_large(limit: int) -> str:
    return f"The body is too large: at most {limit} bytes are allowed here. Send it in parts."


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


def _cross_site_reason(headers: dict[bytes, bytes]) -> str | None:
    """Return why a call may come from a foreign web page, or None if it cannot."""
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", f"http://{host}".encode("latin-1")).decode("latin-1")
    try:
        host_is_local = is_loopback(urlsplit(f"//{host}").hostname or "")
        same_origin = urlsplit(origin).netloc == host
    except ValueError:
        host_is_local = same_origin = False
    if not host_is_local:
        # Without this check, a foreign web page could use a domain name that it made to point
        # to this machine (DNS rebinding).
        return "Without tokens, call this service as localhost, 127.0.0.1 or [::1]."
    return None if same_origin else "Without tokens, pages of other sites cannot use this service."


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
