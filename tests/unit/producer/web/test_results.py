"""A student's results over HTTP, page by page."""

import pytest

from support.front import MemoryFront


@pytest.mark.parametrize("character", ["x", "\u00e4", "\U0001f393"])
def test_results_whose_ids_are_as_long_as_they_can_be_come_in_pages(character: str) -> None:
    front = MemoryFront()
    ids = [character * 127 + str(number) for number in range(3)]
    for request_id in ids:
        front.client.enroll({"student_id": "S", "course_ids": ["C"], "request_id": request_id})
    found = []
    query: dict[str, str | int] = {"limit": 1}
    for _ in ids:
        response = front.call("GET", "/students/S/results", params=query)
        assert response.status_code == 200, response.text
        found += [result["request_id"] for result in response.json()["results"]]
        query["cursor"] = response.json()["next"]
    assert found == ids[::-1]
