"""Undo over HTTP: what is shown first, who may undo, and what is refused."""

from typing import Any

import pytest

from support.front import MemoryFront

TOKENS = {"sis": "submit,drop", "desk": "lookup", "head": "decide,lookup", "chair": "decide"}
STUDENTS = ["S1", "S2", "S3"]


@pytest.fixture
def front() -> MemoryFront:
    """A front with the batch `b`, which has enrolled three students."""
    front = MemoryFront(TOKENS)
    roster = [{"sis_id": sis_id, "name": f"Name of {sis_id}"} for sis_id in STUDENTS]
    front.client.submit_batch("students", roster)
    front.client.submit_batch("courses", [{"sis_id": "C1", "title": "Logic"}])
    records = [{"student_id": student, "course_ids": ["C1"]} for student in STUDENTS]
    front.client.submit_batch("enrollments", records, batch_id="b", file_name="term.csv")
    return front


def undo(front: MemoryFront, caller: str = "head", path: str = "/batches/b/undo") -> Any:
    return front.call("POST", path, caller)


def enrolled(front: MemoryFront) -> list[str]:
    return [str(student.sis_id) for student in front.client.enrolled_students("C1")]


def test_a_report_shows_what_would_change_and_changes_nothing(front: MemoryFront) -> None:
    response = undo(front, path="/batches/b/undo?plan=report")
    assert (response.status_code, response.headers.get("location")) == (200, None)
    report = response.json()
    assert (report["state"], report["undo_id"]) == ("planned", "undo:b")
    assert report["courses"] == [
        {"course_id": 1, "sis_id": "C1", "title": "Logic", "dropped": 3, "enrolled": 0}
    ]
    assert [change["student_name"] for change in report["changes"]] == [
        f"Name of {student}" for student in STUDENTS
    ]
    assert enrolled(front) == STUDENTS


def test_an_undo_is_a_batch_of_its_own_and_a_repeat_does_no_harm(front: MemoryFront) -> None:
    for _ in range(2):
        response = undo(front)
        assert (response.status_code, response.json()["state"]) == (202, "done")
        assert response.json()["books"]["dropped"] == 3
        url = response.headers["location"]
        assert url == "/batches/undo%3Ab"
    assert enrolled(front) == []
    batch = front.call("GET", url, "desk").json()
    assert (batch["state"], batch["books"]["dropped"]) == ("done", 3)
    again = undo(front, path="/batches/b/undo?plan=report")
    assert (again.status_code, again.json()["code"]) == (409, "undo_refused")
    assert "was undone already, by undo:b" in again.json()["detail"]
    assert undo(front, path=f"{url}/undo").status_code == 202
    assert enrolled(front) == STUDENTS


@pytest.mark.parametrize("token", ["sis", "desk"])
@pytest.mark.parametrize("query", ["", "?plan=report"])
def test_only_the_scope_decide_undoes(front: MemoryFront, token: str, query: str) -> None:
    refused = undo(front, token, f"/batches/b/undo{query}")
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_required")
    assert enrolled(front) == STUDENTS


def test_students_are_named_only_to_those_who_may_look_up(front: MemoryFront) -> None:
    report = undo(front, "chair", "/batches/b/undo?plan=report")
    assert report.json()["books"]["dropped"] == 3
    assert report.json()["changes"] == report.json()["left"] == []
    assert "S1" not in report.text


def test_what_is_unknown_or_cannot_be_undone_is_refused(front: MemoryFront) -> None:
    for query in ("", "?plan=report"):
        unknown = undo(front, path=f"/batches/nothing/undo{query}")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_batch")
    front.client.submit_batch("students", [{"sis_id": "S4"}], batch_id="roster")
    roster = undo(front, path="/batches/roster/undo")
    assert (roster.status_code, roster.json()["code"]) == (409, "undo_refused")
    assert "Rosters are not undone" in roster.json()["detail"]


def test_a_held_batch_is_to_be_discarded(front: MemoryFront) -> None:
    csv = {"Content-Type": "text/csv"}
    file = "student_id,course_id\nS1,C1\n"
    front.call("POST", "/batches?hold=always&batch_id=h", "sis", content=file, headers=csv)
    response = undo(front, path="/batches/h/undo")
    assert (response.status_code, response.json()["code"]) == (409, "undo_refused")
    assert "Discard the plan instead" in response.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/requests/{}", "unknown_request"),
        ("GET", "/batches/{}", "unknown_batch"),
        ("POST", "/batches/{}/undo", "unknown_batch"),
        ("GET", "/plans/{}", "unknown_plan"),
    ],
)
def test_a_path_whose_id_is_not_valid_has_the_code_of_an_unknown_one(
    front: MemoryFront, method: str, path: str, code: str
) -> None:
    for text in ("x" * 129, "%00"):
        refused = front.call(method, path.format(text), "head")
        assert (refused.status_code, refused.json()["code"]) == (404, code)
        assert "not a valid id" in refused.json()["detail"]
