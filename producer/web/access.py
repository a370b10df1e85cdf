"""Let a caller in: bearer tokens and their scopes, as dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from producer.web.limits import is_loopback
from producer.web.problems import Refused
from producer.web.tokens import Scope, Token, find_token

bearer = HTTPBearer(auto_error=False, description="A token of ENROLL_HTTP_TOKENS.")


class RequireScope:
    """The dependency of a route: who calls it must have a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(
        self,
        request: Request,
        sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
    ) -> None:
        tokens: tuple[Token, ...] = request.app.state.tokens
        if not tokens:
            server = request.scope.get("server") or ("", 0)
            if not is_loopback(server[0]):
                raise Refused(
                    403,
                    "tokens_required",
                    "Without tokens this service answers on loopback only: set ENROLL_HTTP_TOKENS.",
                )
            return
        token = find_token(tokens, sent.credentials) if sent else None
        if token is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Refused(401, "token_required", "Send a token as a bearer.", **challenge)
        if self._scope not in token.scopes:
            raise Refused(403, "scope_required", f"The token lacks the scope {self._scope}.")


submitting = [Depends(RequireScope(Scope.SUBMIT))]
reading = [Depends(RequireScope(Scope.READ))]
