"""Ids that programs take for folders in an address."""

from typing import Any

import pytest

from producer.schemas import Kind
from support.front import MemoryFront


def call(front: MemoryFront, name: str, own_id: str) -> Any:
    """Submit something over HTTP under an id of one's own."""
    record = {"student_id": "S", "course_ids": ["C"]}
    file = b"sis_id,name\nS,A\n"
    if name == "batch_id":
        return front.call("POST", "/batches", content=file, params={"batch_id": own_id})
    if name == "request_id":
        return front.call("POST", "/students/enroll", json=record | {"request_id": own_id})
    if name == "drop":
        path = "/students/S/courses/C"
        return front.call("DELETE", path, params={"request_id": own_id})
    headers = {"Idempotency-Key": own_id}
    return front.call("POST", "/students/enroll", json=record, headers=headers)


@pytest.mark.parametrize("own_id", [".", ".."])
@pytest.mark.parametrize("name", ["batch_id", "request_id", "Idempotency-Key", "drop"])
def test_an_id_that_no_address_can_hold_is_refused(name: str, own_id: str) -> None:
    front = MemoryFront()
    response = call(front, name, own_id)
    assert response.status_code == 422, response.text
    assert "cannot be part of an address" in response.text
    assert "choose another id" in response.text
    assert not front.client.recent_batches()
    assert front.client.status(own_id).state == "unknown"


@pytest.mark.parametrize("name", ["batch_id", "request_id", "Idempotency-Key", "drop"])
def test_other_ids_with_dots_are_accepted_and_found(name: str) -> None:
    front = MemoryFront()
    assert call(front, name, "...").is_success
    path = "/batches/..." if name == "batch_id" else "/requests/..."
    assert front.call("GET", path).json()["state"] in ("queued", "done")


@pytest.mark.parametrize(("own_id", "encoded"), [(".", "%2E"), ("..", "%2E%2E")])
def test_what_was_submitted_in_another_way_is_found_percent_encoded(
    own_id: str, encoded: str
) -> None:
    front = MemoryFront()
    front.client.submit_batch(Kind.STUDENTS, [{"sis_id": "S"}], batch_id=own_id)
    front.client.submit({"student_id": "S", "course_ids": ["C"], "request_id": own_id})
    assert front.call("GET", f"/batches/{encoded}").json()["batch_id"] == own_id
    assert front.call("GET", f"/batches/{encoded}/errors/lines").is_success
    assert front.call("GET", f"/requests/{encoded}").json()["request_id"] == own_id
