"""The OpenAPI document explains every route and every parameter."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from producer.main import make_app
from producer.web.settings import HttpSettings


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    document = make_app(HttpSettings(broker_url=SecretStr("redis://localhost:1/0"))).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


@pytest.mark.parametrize("operation", [pytest.param(o, id=name) for name, o in operations()])
def test_every_route_and_parameter_has_a_description(operation: dict[str, Any]) -> None:
    assert operation["description"]
    for parameter in operation.get("parameters", ()):
        assert parameter.get("description"), parameter["name"]


def test_the_routes_have_parameters() -> None:
    names = {p["name"] for _, operation in operations() for p in operation.get("parameters", ())}
    assert {"kind", "batch_id", "map", "limit", "cursor", "student"} <= names


def test_what_drops_says_that_it_needs_the_scope() -> None:
    dropping = {
        name for name, operation in operations() if "scope `drop`" in operation["description"]
    }
    assert dropping == {
        "delete /students/{student}/courses/{course}", "post /students/enroll", "post /batches",
        "post /batches/check",
    }  # fmt: skip
