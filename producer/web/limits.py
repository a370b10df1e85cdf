"""Check every HTTP call before a route sees it, and add an id and security headers to responses."""

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from producer.publishing.connection import CALL_ID
from producer.web.callers import Caller, check_same_site, find_caller, needs_token, token_required
from producer.web.problems import PROBLEM, Refused, problem, stopping
from producer.web.settings import HttpSettings
from producer.web.slots import WITHOUT_TOKEN, Slots, Sort, sort_of

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

SMALL_BODY: Final = 1_048_576
"""The largest body in bytes, except for uploads; a request for 100 courses has a few kilobytes."""

SMALL_BODY_SECONDS: Final = 20.0
"""Seconds in which a whole body must arrive, except for uploads."""

SEND_SECONDS: Final = 60.0
"""Seconds that a caller may take to read the next piece of a response."""

LIVE: Final = "/health/live"
"""The route that says whether the process answers. It depends on nothing."""
READY: Final = "/health/ready"

_CALL_ID = re.compile(r"[\w.-]{1,64}")
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class RequestLimits:
    """ASGI middleware that finds out who calls and limits the size, the number and the rate.

    If callers have no tokens, it makes sure that a call comes from a program or a page of this
    machine, not from a foreign web page in this machine's browser.
    """

    def __init__(self, app: Asgi, *, settings: HttpSettings) -> None:
        self._app = app
        self._max_upload = settings.http_max_upload
        self._body_wait = settings.http_body_wait
        totals = {
            Sort.CALL: settings.http_max_running,
            Sort.UPLOAD: settings.http_max_uploads,
            Sort.WAIT: settings.http_max_waiting,
            Sort.STREAM: settings.http_max_streams,
        }
        self._slots = {sort: Slots(sort, total) for sort, total in totals.items()}
        self._rate = _Rate(settings.http_rate)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Pass a call on, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        call_id = _call_id(headers)
        CALL_ID.set(call_id)
        # Routes see the path as it was sent, because a SIS id may contain an encoded slash.
        scope["path"] = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
        send = _with_headers(send, [(b"x-request-id", call_id.encode()), *_HEADERS])
        sort = sort_of(scope["method"], scope["path"], headers)
        limit = self._max_upload if sort is Sort.UPLOAD else SMALL_BODY
        body = _Body(receive, limit, self._body_wait, is_upload=sort is Sort.UPLOAD)
        try:
            caller = self._admit(scope, headers, limit)
            with self._slot(sort, scope["path"], caller):
                await self._app(scope, body.receive, send)
        except Refused as refusal:  # The application turns its own errors into responses.
            await _refuse(send, refusal)
        except asyncio.CancelledError:  # The grace time after SIGTERM is over.
            with contextlib.suppress(RuntimeError):  # The response may have begun.
                await _refuse(send, stopping())

    def _admit(self, scope: AsgiScope, headers: Mapping[bytes, bytes], limit: int) -> str | None:
        """Return the name of the caller's token; None if there are no tokens. Raises Refused.

        Callers without a token, of the pages for example, are one caller if others have tokens.
        """
        _check_unique(scope["headers"])
        tokens = scope["app"].state.tokens
        if not tokens:
            check_same_site(headers)
        caller = find_caller(scope, headers, tokens)
        if caller is None and needs_token(scope["path"]):
            raise token_required()
        scope.setdefault("state", {})["caller"] = caller
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            name = encoding.decode("latin-1")[:40]
            detail = f"Send the body without Content-Encoding: {name}."
            raise Refused(415, "unsupported_encoding", detail)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > _MAX_DIGITS or int(length) > limit):
            raise _too_large(limit)
        self._rate.count(_name_of(caller, scope))
        return WITHOUT_TOKEN if caller is None else caller.name

    def _slot(
        self, sort: Sort, path: str, caller: str | None
    ) -> contextlib.AbstractContextManager[None]:
        """Return what a call holds while it runs; nothing for a question about health.

        A busy front must not look dead: it would be restarted in the middle of uploads.
        """
        if path in (LIVE, READY):
            return contextlib.nullcontext()
        return self._slots[sort].taken(caller)


def _check_unique(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Refused if a header that may come once comes twice: a proxy may have read the other."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in _UNIQUE and name in seen:
            detail = f"The header {name.decode()} came twice; send it once."
            raise Refused(400, "repeated_header", detail)
        seen.add(name)


_UNIQUE: Final = frozenset(
    (b"authorization", b"content-type", b"host", b"idempotency-key", b"origin")
)

_MAX_DIGITS: Final = 20
"""Python refuses to read thousands of digits."""


def _call_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the id that the caller gave the call, or a new one."""
    own = headers.get(b"x-request-id", b"").decode("latin-1")
    return own if _CALL_ID.fullmatch(own) else uuid.uuid4().hex


def _name_of(caller: Caller | None, scope: AsgiScope) -> str:
    """Return whose calls are counted together: those of a token, or else of an address."""
    if caller is not None and caller.name is not None:
        return f"token {caller.name}"
    return str((scope.get("client") or ("",))[0])


class _Rate:
    """The calls of each caller in this second; 0 means no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._calls: Counter[str] = Counter()

    def count(self, caller: str) -> None:
        """Count a call. Raises Refused if it is one too many."""
        if not self._most:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._calls.clear()
        self._calls[caller] += 1
        if self._calls[caller] > self._most:
            detail = f"At most {self._most} calls a second are allowed; try again later."
            raise Refused(429, "too_many_requests", detail, **{"Retry-After": "1"})


class _Body:
    """The body of a call, which must not be too large, or arrive too slowly.

    A small body has one deadline for all of it; an upload has one for each piece.
    """

    def __init__(self, receive: Receive, limit: int, wait: float, *, is_upload: bool) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = wait if is_upload else min(wait, SMALL_BODY_SECONDS)
        self._is_upload = is_upload
        self._size = 0
        self._is_complete = False
        self._deadline: float | None = None

    async def receive(self) -> Any:
        """Return the next piece, or, after the body, the end of the connection. Raises Refused."""
        if self._is_complete:  # Only the end of the connection follows, at any time.
            return await self._receive()
        now = asyncio.get_running_loop().time()
        if self._deadline is None or self._is_upload:
            self._deadline = now + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            what = "No data" if self._is_upload else "Not all of the body"
            detail = f"{what} arrived for {self._seconds:g} s; send the request again."
            raise Refused(408, "body_timeout", detail, Connection="close") from None
        self._is_complete = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise _too_large(self._limit)
        return message


def _too_large(limit: int) -> Refused:
    detail = f"The body is too large: at most {limit} bytes are allowed here. Send it in parts."
    return Refused(413, "too_large", detail, Connection="close")


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    """Return a `send` that adds headers, unless the route set its own of the same name.

    It gives up if the caller does not read the response.
    """

    async def send_with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            own += [header for header in headers if header[0] not in names]
            message = {**message, "headers": own}
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)

    return send_with_headers


async def _refuse(send: Send, refusal: Refused) -> None:
    """Answer a call before its body is read; the connection cannot be used again."""
    body = json.dumps(problem(refusal.status_code, refusal.code, str(refusal.detail))).encode()
    own = {"Connection": "close", **(refusal.headers or {})}
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in own.items()),
    ]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
