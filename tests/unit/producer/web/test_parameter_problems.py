"""A parameter that breaks its rule gets a problem in words, on every route that has one."""

import re
from typing import Any

import pytest
from pydantic import SecretStr

from producer.main import make_app
from producer.web.settings import HttpSettings
from support.front import MemoryFront

WRONG = ("", "maybe", "-1", "9" * 30, "x" * 300, "2026-09-01", "undo:b")
OF_LIBRARY = re.compile(r"Input should|should have|Value error|unable to|\{")


def parameters() -> list[tuple[str, str, str]]:
    """Return the method, the path and the name of every parameter of a query."""
    paths: dict[str, Any] = make_app(
        HttpSettings(broker_url=SecretStr("redis://localhost/0"))
    ).openapi()["paths"]
    return [
        (method, re.sub(r"\{.*?\}", "1", path), parameter["name"])
        for path, operations in paths.items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    ]


def test_no_route_answers_in_the_words_of_a_library() -> None:
    front = MemoryFront()
    details = set()
    for method, path, name in parameters():
        for value in WRONG:
            response = front.call(method, path, params={name: value}, content="")
            if response.status_code == 422 and response.json().get("field") == name:
                details.add(response.json()["detail"])
    assert len(details) > 20
    assert [detail for detail in details if OF_LIBRARY.search(detail)] == []


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"adopt": "maybe"}, 'adopt: must be true or false, not "maybe"'),
        ({"plan": "x"}, "plan: must be 'report' or 'apply', not \"x\""),
        ({"batch_id": "b" * 129}, "batch_id: must have at most 128 characters, not"),
        ({"batch_id": "undo:b"}, "batch_id: must not begin with undo:"),
    ],
)
def test_a_refused_parameter_is_explained(query: dict[str, str], detail: str) -> None:
    response = MemoryFront().call("post", "/batches", params=query, content="")
    assert response.status_code == 422
    assert response.json()["detail"].startswith(detail)
