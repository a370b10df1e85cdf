"""Check the scopes of the caller, as dependencies of the routes."""

from typing import Annotated

from fastapi import Depends, Request

from producer.web.callers import Caller, token_required
from producer.web.problems import Refused
from producer.web.tokens import Scope


class RequireScope:
    """A dependency of a route that requires a token, and that it has a scope if one is given."""

    def __init__(self, scope: Scope | None = None) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> str | None:
        """Return the name of the caller's token; None if there are no tokens."""
        caller = await caller_of(request)
        if self._scope is not None:
            check_scope(request, self._scope)
        return caller.name


async def caller_of(request: Request) -> Caller:
    """Return who calls a route that requires a token. Raises Refused without one."""
    caller: Caller | None = request.state.caller
    if caller is None:
        raise token_required()
    return caller


CallerOfRoute = Annotated[Caller, Depends(caller_of)]
"""Who calls a route that requires a token."""


def has_scope(request: Request, scope: Scope) -> bool:
    """Return whether the caller of a route that requires another scope has this one, too."""
    caller: Caller = request.state.caller
    return scope in caller.scopes


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
deciding = [Depends(RequireScope(Scope.DECIDE))]
looking_up = [Depends(RequireScope(Scope.LOOKUP))]
reading_own = [Depends(RequireScope())]
"""Any token will do, because the route shows a caller without `lookup` only what is its own."""
