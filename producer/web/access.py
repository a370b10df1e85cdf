"""Check bearer tokens and their scopes, as dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from producer.web.limits import is_loopback
from producer.web.problems import Refused
from producer.web.tokens import Scope, Token, find_token

bearer = HTTPBearer(auto_error=False, description="A token listed in ENROLL_HTTP_TOKENS.")


class RequireScope:
    """A dependency of a route that requires the caller's token to have a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(
        self,
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
    ) -> str | None:
        """Return the name of the caller's token; None if there are no tokens."""
        tokens: tuple[Token, ...] = request.app.state.tokens
        request.state.scopes = frozenset(Scope)
        if not tokens:
            server = request.scope.get("server") or ("", 0)
            if not is_loopback(server[0]):
                raise Refused(
                    403,
                    "tokens_required",
                    "Without tokens, this service answers only on loopback;"
                    " ask the operator to set ENROLL_HTTP_TOKENS.",
                )
            return None
        token = find_token(tokens, credentials.credentials) if credentials else None
        if token is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Refused(
                401,
                "token_required",
                "A valid token is required: enter it on the page, or send it in the header"
                " Authorization: Bearer TOKEN.",
                **challenge,
            )
        request.state.scopes = token.scopes
        check_scope(request, self._scope)
        return token.name


def has_scope(request: Request, scope: Scope) -> bool:
    """Return whether the caller of a route that requires another scope has this one, too."""
    scopes: frozenset[Scope] = request.state.scopes
    return scope in scopes


def check_scope(request: Request, scope: Scope, purpose: str = "") -> None:
    """Raise Refused unless the caller has a scope; `purpose` says what needs it."""
    if not has_scope(request, scope):
        raise lacking(scope, purpose)


def lacking(scope: Scope, purpose: str = "") -> Refused:
    """Return the refusal of a call whose token lacks a scope."""
    detail = f"The token lacks the scope {scope}{purpose}; use a token that has it."
    return Refused(403, "scope_required", detail)


_submitting = Depends(RequireScope(Scope.SUBMIT))
submitting = [_submitting]
Submitter = Annotated[str | None, _submitting]
"""The name of the token with which a batch is submitted."""
dropping = [Depends(RequireScope(Scope.DROP))]
reading = [Depends(RequireScope(Scope.READ))]
