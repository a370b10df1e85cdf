"""A student's results over HTTP, page by page."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from producer.main import make_app
from producer.testing import FakeEnrollmentClient
from producer.web.settings import HttpSettings


@pytest.mark.parametrize("character", ["x", "\u00e4", "\U0001f393"])
def test_results_whose_ids_are_as_long_as_they_can_be_come_in_pages(character: str) -> None:
    client = FakeEnrollmentClient()
    ids = [character * 127 + str(number) for number in range(3)]
    for request_id in ids:
        client.enroll({"student_id": "S", "course_ids": ["C"], "request_id": request_id})

    async def pages() -> list[str]:
        app = make_app(HttpSettings(broker_url=SecretStr("memory://")))
        app.state.tokens, app.state.client = (), client
        transport = httpx.ASGITransport(app=app)
        found = []
        query: dict[str, str | int] = {"limit": 1}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as caller:
            for _ in ids:
                response = await caller.get("/students/S/results", params=query)
                assert response.status_code == 200, response.text
                found += [result["request_id"] for result in response.json()["results"]]
                query["cursor"] = response.json()["next"]
        return found

    assert asyncio.run(pages()) == ids[::-1]
