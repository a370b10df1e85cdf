"""An HTTP front over a broker, a worker and a database in memory, without a server."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.datastructures import State

from producer.main import make_app
from producer.testing import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from producer.testing.connection import MemoryBroker
from producer.web.audit import AuditLog
from producer.web.audit_files import AuditFolder
from producer.web.services import Services
from producer.web.settings import HttpSettings
from producer.web.tokens import read_tokens


@cache
def _routes() -> FastAPI:
    return make_app(HttpSettings(broker_url=SecretStr("memory://")))


def new_app() -> FastAPI:
    """Return an application of its own, with routes that are made once: that takes 20 ms."""
    app = copy(_routes())
    app.state = State({"settings": app.state.settings})
    return app


class MemoryFront:
    """Answers calls; each call starts the front and stops it again, over the same data.

    `tokens` are the scopes of each caller, by name; a caller's token is its name. A name may stand
    there several times with a suffix: the tokens `sis` and `sis+new` are both of the caller `sis`.
    """

    def __init__(self, tokens: Mapping[str, str] | None = None, audit: Path | None = None) -> None:
        self.broker = MemoryBroker()
        self.client = FakeEnrollmentClient(broker=self.broker, timeout=1)
        self.audit = audit
        lines = [
            f"{secret.partition('+')[0]} {scopes} {hashlib.sha256(secret.encode()).hexdigest()}"
            for secret, scopes in (tokens or {}).items()
        ]
        self.tokens = read_tokens(lines)

    def call(self, method: str, path: str, token: str | None = None, **options: Any) -> Any:
        """Send a call with a token, and return the response."""
        return asyncio.run(self.send(method, path, token, **options))

    async def send(self, method: str, path: str, token: str | None = None, **options: Any) -> Any:
        """Do the same in an event loop that runs."""
        if token is not None:
            own = {"Authorization": f"Bearer {token}"}
            options["headers"] = own | options.get("headers", {})
        audit = None if self.audit is None else AuditLog(AuditFolder(self.audit, 400))
        app = new_app()
        app.state.tokens = self.tokens
        asynchronous = FakeAsyncEnrollmentClient(broker=self.broker, timeout=1)
        blocking = FakeEnrollmentClient(broker=self.broker, timeout=1)
        app.state.services = services = Services.over(asynchronous, blocking, audit)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            response = await client.request(method, path, **options)
        await services.close()
        return response

    def recorded(self) -> list[Any]:
        """Return the lines of the audit of this day."""
        assert self.audit is not None
        path = self.audit / f"audit-{datetime.now(UTC):%Y-%m-%d}.jsonl"
        return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []
