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
        if self._scope not in token.scopes:
            raise Refused(
                403,
                "scope_required",
                f"The token lacks the scope {self._scope}; use a token that has it.",
            )
        return token.name


_submitting = Depends(RequireScope(Scope.SUBMIT))
submitting = [_submitting]
Submitter = Annotated[str | None, _submitting]
"""The name of the token with which a batch is submitted."""
reading = [Depends(RequireScope(Scope.READ))]
