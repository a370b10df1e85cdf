"""A body that breaks the contract gets a problem that names the place and the remedy."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from producer.schemas import StudentEnrollmentRequest
from producer.web.problems import PROBLEM, handle_problems

JSON = "application/json"


def answer(body: bytes, content_type: str) -> httpx.Response:
    app = FastAPI()
    handle_problems(app)

    @app.post("/")
    def accept(request: StudentEnrollmentRequest) -> str:
        return request.model_dump_json()

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/", content=body, headers={"Content-Type": content_type})

    return asyncio.run(post())


@pytest.mark.parametrize(
    ("body", "content_type", "field", "words"),
    [
        (b'{"student_id": "S1" "x": 1}', JSON, None, "at character 21; correct it"),
        (b"", JSON, None, "The body must be a JSON object"),
        (b"[]", JSON, None, "The body must be a JSON object, not []"),
        (b'{"student_id": "S1"}', "text/plain", None, "Content-Type: application/json"),
        (b'{"student_id": "S1"}', JSON, "course_ids", "course_ids: must be a list of 1 to 100"),
        (b'{"student_id": true, "course_ids": ["C"]}', JSON, "student_id", "the SIS id"),
        (b'{"student_id": "S", "course_ids": ["C", {}]}', JSON, "course_ids[1]", "not {}"),
        (b'{"student_id": "S", "course_ids": ["C"], "x": 1}', JSON, "x", "remove it"),
    ],
)
def test_a_refused_body_is_explained_in_the_words_of_the_contract(
    body: bytes, content_type: str, field: str | None, words: str
) -> None:
    response = answer(body, content_type)
    assert response.status_code == 422
    assert response.headers["content-type"] == PROBLEM
    problem = response.json()
    assert problem["code"] == "invalid_request"
    assert problem["field"] == field
    assert words in problem["detail"]
