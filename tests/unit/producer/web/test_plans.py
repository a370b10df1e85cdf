"""Plans over HTTP: what is submitted, who sees the report and the drops, and who decides."""

import codecs
import csv
import io
import json
import zipfile
from typing import Any

import pytest

from support.front import MemoryFront

CSV = {"Content-Type": "text/csv"}
COLUMNS = "student_id,course_id\n"
STUDENTS = [f"S{number:02}" for number in range(40)]
TOKENS = {
    "sis": "submit,drop",
    "portal": "submit,drop",
    "desk": "lookup",
    "head": "decide,lookup",
    "plain": "submit",
}


def lines(*students: str) -> str:
    return COLUMNS + "".join(f"{student},C1\n" for student in students)


@pytest.fixture
def front() -> MemoryFront:
    """A front with students, a course, and a data set that snapshots may use."""
    front = MemoryFront(TOKENS)
    front.client.create_data_set("sis:fall")
    roster = [{"sis_id": sis_id, "name": f"=Name of {sis_id}"} for sis_id in STUDENTS]
    front.client.submit_batch("students", roster)
    front.client.submit_batch("courses", [{"sis_id": "C1", "title": "Logic"}])
    return front


def submit(front: MemoryFront, query: str, content: str, caller: str = "sis") -> Any:
    return front.call("POST", f"/batches?{query}", caller, content=content, headers=CSV)


def snapshot(front: MemoryFront, *students: str) -> str:
    """Submit a snapshot, and return the URL of its plan."""
    response = submit(front, "snapshot=sis:fall", lines(*students))
    assert response.status_code == 202, response.text
    return str(response.json()["plan_url"])


def held_plan(front: MemoryFront) -> str:
    snapshot(front, *STUDENTS)
    return snapshot(front, *STUDENTS[:5])


def enrolled(front: MemoryFront) -> int:
    return len(list(front.client.enrolled_students("C1")))


def decide(front: MemoryFront, url: str, token: str, **body: Any) -> Any:
    return front.call("POST", f"{url}/decision", token, json=body)


def test_a_report_can_be_read_by_its_submitter_and_changes_nothing(front: MemoryFront) -> None:
    response = submit(front, "plan=report&batch_id=night", lines("S00", "ghost"))
    assert response.json()["plan_id"] == "night"
    assert response.json()["plan_url"] == "/plans/night"
    plan = front.call("GET", "/plans/night", "sis").json()
    assert (plan["state"], plan["purpose"]) == ("planned", "report")
    (batch,) = plan["batches"]
    assert (batch["books"]["enrolled"], batch["books"]["rejected"]) == (1, 1)
    assert enrolled(front) == 0
    for token, status in (("portal", 404), ("plain", 404), ("desk", 200)):
        assert front.call("GET", "/plans/night", token).status_code == status


def test_a_snapshot_is_applied_and_its_drops_are_listed(front: MemoryFront) -> None:
    snapshot(front, *STUDENTS)
    url = snapshot(front, *STUDENTS[1:])
    plan = front.call("GET", url, "sis").json()
    assert (plan["state"], plan["applied"]["dropped"]) == ("done", 1)
    assert enrolled(front) == len(STUDENTS) - 1
    page = front.call("GET", f"{url}/drops", "desk").json()
    assert [(d["student_sis_id"], d["outcome"]) for d in page["drops"]] == [("S00", "dropped")]
    assert page["next"] is None


def test_drops_need_the_scope_lookup_because_they_have_names(front: MemoryFront) -> None:
    url = held_plan(front)
    refused = front.call("GET", f"{url}/drops", "sis")
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_required")


def test_drops_are_read_in_pages_and_as_a_file(front: MemoryFront) -> None:
    url = held_plan(front)
    first = front.call("GET", f"{url}/drops?limit=20", "desk").json()
    second = front.call("GET", f"{url}/drops?limit=20&cursor={first['next']}", "desk").json()
    assert second["next"] is None
    shown = [drop["student_sis_id"] for drop in (*first["drops"], *second["drops"])]
    assert shown == STUDENTS[5:]
    file = front.call("GET", f"{url}/drops", "desk", headers={"Accept": "text/csv"})
    assert file.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="drops.csv"' in file.headers["content-disposition"]
    assert file.content.startswith(codecs.BOM_UTF8)
    header, *rows = csv.reader(io.StringIO(file.content.decode("utf-8-sig")))
    assert header == ["student_id", "student_name", "course_id", "course_title", "outcome"]
    assert [row[0] for row in rows] == STUDENTS[5:]
    assert rows[0] == ["S05", "'=Name of S05", "C1", "Logic", ""]
    bad = front.call("GET", f"{url}/drops?cursor=x", "desk")
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_cursor")


def test_only_the_scope_decide_decides_and_only_about_what_was_shown(front: MemoryFront) -> None:
    url = held_plan(front)
    plan = front.call("GET", url, "head").json()
    assert plan["state"] == "held"
    body = {"decision": "approve", "digest": plan["digest"]}
    for token in ("sis", "desk", "plain"):
        assert decide(front, url, token, **body).status_code == 403
    other = decide(front, url, "head", decision="approve", digest="0" * 64)
    assert (other.status_code, other.json()["code"]) == (409, "decision_refused")
    assert enrolled(front) == len(STUDENTS)
    assert decide(front, url, "head", **body).json()["state"] == "done"
    assert enrolled(front) == 5
    assert decide(front, url, "head", **body).status_code == 200  # A repeat does no harm.
    late = decide(front, url, "head", decision="discard", digest=plan["digest"])
    assert (late.status_code, late.json()["code"]) == (409, "decision_refused")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"decision": "approve", "digest": "ABC"}, "digest"),
        ({"decision": "approve"}, "digest"),
        ({"decision": "maybe", "digest": "0" * 64}, "decision"),
        ({"decision": "discard", "digest": "0" * 64, "why": "x"}, "why"),
    ],
)
def test_a_decision_that_is_not_one_is_explained(
    front: MemoryFront, body: dict[str, Any], field: str
) -> None:
    response = decide(front, held_plan(front), "head", **body)
    assert (response.status_code, response.json()["field"]) == (422, field)
    assert response.json()["detail"].startswith(f"{field}: ")


def test_a_decision_about_an_unknown_plan_is_refused(front: MemoryFront) -> None:
    response = decide(front, "/plans/nothing", "head", decision="approve", digest="0" * 64)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_plan")
    assert "No plan with the id nothing is known" in response.json()["detail"]
    drops = front.call("GET", "/plans/nothing/drops", "head")
    assert (drops.status_code, drops.json()["code"]) == (404, "unknown_plan")


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_drops_are_not_known_before_there_is_a_report(front: MemoryFront, accept: str) -> None:
    refused = submit(front, "snapshot=nobody-created-it&batch_id=b", lines("S00"))
    assert refused.status_code == 202  # It is discarded before it is made.
    response = front.call("GET", "/plans/b/drops", "head", headers={"Accept": accept})
    assert (response.status_code, response.json()["code"]) == (409, "drops_not_known")


def test_a_snapshot_needs_the_scope_drop_unless_it_is_a_report(front: MemoryFront) -> None:
    refused = submit(front, "snapshot=sis:fall", lines("S00"), "plain")
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_required")
    assert submit(front, "snapshot=sis:fall&plan=report", lines("S00"), "plain").status_code == 202


@pytest.mark.parametrize(
    ("query", "content", "message"),
    [
        ("plan=report&hold=always", lines("S00"), "hold: a dry run is never applied"),
        ("adopt=true", lines("S00"), "adopt: only a snapshot"),
        ("hold=2%25", lines("S00"), "hold: a percentage"),
        ("snapshot=x&data_set=y", lines("S00"), "data_set: a snapshot belongs"),
        ("snapshot=sis:fall", "sis_id,name\nS1,Ada\n", "snapshot: a snapshot needs enrollments"),
        ("data_set=sis:fall", "sis_id,name\nS1,Ada\n", "data_set: only enrollments belong"),
        ("snapshot=sis:fall&drop=true", lines("S00"), "The file is submitted as drops"),
        (
            "snapshot=sis:fall",
            "student_id,course_id,action\nS00,C1,drop\n",
            "The file has a column action",
        ),
        (
            "snapshot=sis:fall",
            "student_id,course_id,as_of\nS00,C1,2026-09-01T08:00:00Z\n",
            "The file has a column as_of",
        ),
        (
            "snapshot=sis:fall",
            '{"student_id": "S00", "drop_course_ids": ["C1"]}\n',
            "Line 1 of the file is a drop",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_published(
    front: MemoryFront, query: str, content: str, message: str
) -> None:
    response = submit(front, f"{query}&batch_id=b", content)
    assert response.status_code == 422, response.text
    assert message in response.json()["detail"]
    assert front.client.batch("b").state == "unknown"


def test_the_lines_that_a_held_plan_would_refuse_can_be_downloaded(front: MemoryFront) -> None:
    submit(front, "hold=always&batch_id=h", lines("S00", "ghost"))
    (group,) = front.call("GET", "/batches/h/errors", "sis").json()
    assert (group["code"], group["first_lines"]) == ("unknown_student", [3])
    for token in ("sis", "desk"):
        file = front.call("GET", "/batches/h/errors", token, headers={"Accept": "text/csv"}).text
        assert "3,unknown_student,no student has the SIS id 'ghost',ghost,C1" in file
        page = front.call("GET", "/batches/h/errors/lines", token).json()
        assert [line["cells"] for line in page["lines"]] == [["ghost", "C1"]]
    assert front.call("GET", "/batches/h/errors", "portal").status_code == 404


def test_a_data_set_alone_is_no_plan(front: MemoryFront) -> None:
    response = submit(front, "data_set=sis:fall&batch_id=b", lines("S00"))
    assert response.json()["plan_id"] is None
    status = front.client.batch("b")
    assert (status.state, status.data_set, status.plan_id) == ("done", "sis:fall", None)


def test_plan_apply_is_applied_without_a_reason_to_hold_it(front: MemoryFront) -> None:
    url = submit(front, "plan=apply", lines("S00")).json()["plan_url"]
    assert front.call("GET", url, "sis").json()["state"] == "done"
    assert enrolled(front) == 1


def test_a_package_is_one_plan(front: MemoryFront) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("students.csv", "sis_id,name\nNEW,Ada\n")
        package.writestr("enrollments.csv", f"{COLUMNS}NEW,C1\n")
    response = front.call(
        "POST", "/batches?plan=report&batch_id=p", "sis", content=archive.getvalue()
    )
    accepted = response.json()
    assert accepted["plan_url"] == "/plans/p%3Aenrollments"
    plan = front.call("GET", accepted["plan_url"], "sis").json()
    assert [batch["batch_id"] for batch in plan["batches"]] == ["p:students", "p:enrollments"]
    assert plan["batches"][1]["books"]["enrolled"] == 1
    assert front.client.student("NEW") is None


def test_the_events_of_a_held_batch_end(front: MemoryFront) -> None:
    response = submit(front, "hold=always&batch_id=b", lines("S00"))
    assert response.status_code == 202
    events = front.call("GET", "/batches/b/events", "sis").text.split("\n\n")
    assert json.loads(events[0].removeprefix("data: "))["state"] == "held"
    assert events[1:] == [""]
