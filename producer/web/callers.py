"""Find out who calls, before the body of a call is read."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from producer.web.problems import Refused
from producer.web.tokens import Scope, Token, find_token

_PROTECTED: Final = ("/batches", "/courses", "/plans", "/requests", "/students")
"""What the paths begin with that need a token. The routes themselves check the scope."""


class Caller(NamedTuple):
    """The caller: the name of a token with its scopes, or any program on this machine."""

    name: str | None
    scopes: frozenset[Scope]
    is_remembered: bool = False
    """Whether there is a token of this name without `lookup`, which sees what the name submits."""

    @property
    def may_look_up(self) -> bool:
        """Return whether the caller may see what others have submitted."""
        return Scope.LOOKUP in self.scopes


ANYBODY = Caller(None, frozenset(Scope))
"""The caller where there are no tokens."""


def find_caller(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], tokens: Sequence[Token]
) -> Caller | None:
    """Return who calls; None if there is no valid token. Raises Refused.

    Without tokens, every caller over loopback may do everything.
    """
    if not tokens:
        server = scope.get("server") or ("", 0)
        if not is_loopback(server[0]):
            raise Refused(
                403,
                "tokens_required",
                "Without tokens, this service answers only on loopback;"
                " ask the operator to set ENROLL_HTTP_TOKENS.",
            )
        return ANYBODY
    scheme, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    token = find_token(tokens, secret.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        return None
    is_remembered = any(t.name == token.name and Scope.LOOKUP not in t.scopes for t in tokens)
    return Caller(token.name, token.scopes, is_remembered)


def needs_token(path: str) -> bool:
    """Return whether a call for this path is refused without a valid token."""
    return path.startswith(_PROTECTED)


def token_required() -> Refused:
    """Return the refusal of a call without a valid token."""
    return Refused(
        401,
        "token_required",
        "A valid token is required: enter it on the page, or send it in the header"
        " Authorization: Bearer TOKEN.",
        **{"WWW-Authenticate": "Bearer"},
    )


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


def check_same_site(headers: Mapping[bytes, bytes]) -> None:
    """Raise Refused if a call without tokens may come from a page of another site.

    Host and origin must be this machine. Otherwise, a foreign web page could use a domain name that
    it made to point here (DNS rebinding).
    """
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", f"http://{host}".encode("latin-1")).decode("latin-1")
    try:
        host_is_local = is_loopback(urlsplit(f"//{host}").hostname or "")
        same_origin = urlsplit(origin).netloc == host
    except ValueError:
        host_is_local = same_origin = False
    if not host_is_local:
        detail = "Without tokens, call this service as localhost, 127.0.0.1 or [::1]."
        raise Refused(403, "foreign", detail)
    if not same_origin:
        detail = "Without tokens, pages of other sites cannot use this service."
        raise Refused(403, "foreign", detail)
