"""Students and courses are looked up on the page, and one student is enrolled or dropped."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from producer.schemas import Kind
from support.accessibility import findings_of
from support.commands import write_lines
from support.http import serving
from support.page import heard_by
from support.rosters import enter_roster, submit_and_finish
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


@pytest.fixture
def url(deployment: Deployment, tmp_path: Path) -> Iterator[str]:
    with serving(deployment.environment, tmp_path / "log") as (served, _):
        yield served


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(timezone_id="Europe/Berlin", locale="de-DE")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def test_a_history_is_shown_the_latest_first_and_page_by_page(
    url: str, page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    begin = datetime(2026, 9, 1, 8, tzinfo=UTC)
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["ask/1"], [{"sis_id": "ask-C", "title": "History"}])
        for hour in range(22):
            courses = "course_ids" if hour % 2 == 0 else "drop_course_ids"
            change = {"student_id": "ask/1", courses: ["ask-C"], "reason": f"<i>reason {hour}</i>"}
            client.enroll({**change, "as_of": begin + timedelta(hours=hour)})
        client.enroll({"student_id": "ask/1", "course_ids": ["ask-C"], "as_of": begin})
        file = write_lines(tmp_path / "late.csv", "student_id,course_id", "ask/1,NOPE")
        batch = client.submit_file(file)
        client.wait(batch)
    messages = heard_by(page)
    page.goto(f"{url}/#/students/ask%2F1")
    rows = page.get_by_role("table", name="What happened").locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 20
    assert "No course has the id “NOPE”." in rows.nth(0).inner_text()
    assert rows.nth(0).get_by_role("link", name="line 2").get_attribute("href") == (
        f"#/batches/{batch.batch_id}"
    )
    assert "History" in rows.nth(1).inner_text()
    assert "<i>reason 21</i>" in rows.nth(1).inner_text()
    page.get_by_role("button", name="Show older ones").click()
    rows.nth(20).wait_for()
    words = [row.split("\t")[1].strip() for row in rows.all_inner_texts()]
    assert words[:2] == ["Refused", "Dropped"]
    assert words.count("No effect") == 1
    assert sum("won" in row for row in rows.all_inner_texts()) == 1
    assert len(words) == 24
    assert page.get_by_role("button", name="Show older ones").count() == 0
    assert page.evaluate("document.activeElement.localName") == "tr"
    page.get_by_text("All requests about this student").click()
    page.get_by_role("table", name="Requests about this student").wait_for()
    assert messages == []
    assert findings_of(page) == []


def test_a_student_is_enrolled_and_dropped_after_a_question(
    url: str, page: Any, deployment: Deployment
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        students = [{"sis_id": "key:7", "name": "Ask Two"}]
        enter_roster(
            client,
            students,
            [
                {"sis_id": "ask/D", "title": "Drawing"},
                {"sis_id": "ask/E", "title": "Drawing old masters"},
            ],
        )
    page.goto(f"{url}/#/students/key%3A7")
    box = page.get_by_label("Enroll in the course with the id or title")
    box.fill("no such course")
    box.press("Enter")
    page.get_by_text("The roster has no course with the id or title “no such course”.").wait_for()
    assert box.get_attribute("aria-invalid") == "true"
    assert findings_of(page) == []
    box.fill(" drawing ")
    box.press("Enter")
    page.get_by_text("More than one course has this in its title.").wait_for()
    assert findings_of(page) == []
    page.get_by_role("button", name="Drawing (ask/D)").click()
    page.get_by_text("Ask Two (key:7) will be enrolled in Drawing (ask/D).").wait_for()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert page.get_by_role("button", name="Drop from Drawing").count() == 0
    box.fill("ask/D")
    box.press("Enter")
    page.get_by_role("button", name="Enroll", exact=True).click()
    page.get_by_text("Ask Two (key:7) is now enrolled in Drawing (ask/D).").wait_for()
    assert findings_of(page) == []
    page.get_by_role("button", name="Drop from Drawing").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("moved <b>")
    page.keyboard.press("Enter")
    page.get_by_text("Ask Two (key:7) was dropped from Drawing (ask/D).").wait_for()
    assert "not enrolled in any course" in page.inner_text("main")
    assert "moved <b>" in page.get_by_role("table", name="What happened").inner_text()


def test_refused_requests_of_an_unknown_student_are_shown(
    url: str, page: Any, deployment: Deployment
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [], ["ask-E"])
        client.enroll({"student_id": "ask-ghost", "course_ids": ["ask-E"]})
    page.goto(f"{url}/#/students/ask-ghost")
    page.get_by_text("The roster has no student with the id “ask-ghost”.").wait_for()
    history = page.get_by_role("table", name="What happened")
    assert "No student has the id “ask-ghost”." in history.inner_text()
    assert findings_of(page) == []


def test_a_roll_is_shown_now_and_at_a_time_in_the_time_zone_of_the_reader(
    url: str, page: Any, deployment: Deployment
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(
            client, [{"sis_id": "R1", "name": "Roll One"}], [{"sis_id": "RC", "title": "Rolls"}]
        )
        begin = datetime(2026, 9, 1, 8, tzinfo=UTC)
        client.enroll({"student_id": "R1", "course_ids": ["RC"], "as_of": begin})
        others = [f"RO{number}" for number in range(119)]
        enter_roster(client, others, [])
        later = begin + timedelta(hours=2)
        enrollments = [{"student_id": id_, "course_ids": ["RC"], "as_of": later} for id_ in others]
        submit_and_finish(client, Kind.ENROLLMENTS, enrollments)
    page.goto(f"{url}/#/courses/RC")
    page.get_by_text("The first 100 students.").wait_for()
    page.get_by_role("button", name="Show more students").click()
    page.get_by_text("120 students.").wait_for()
    page.get_by_text("In your time zone, Europe/Berlin.").wait_for()
    page.get_by_label("Who was enrolled at this time?").fill("2026-09-01T11:00")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("heading", name="Enrolled on 1 Sept 2026, 11:00").wait_for()
    rows = page.get_by_role("table", name="Students").locator("tbody tr")
    assert rows.count() == 1
    assert "1 Sept 2026, 10:00" in rows.first.inner_text()
    assert "at=2026-09-01T09%3A00%3A00.000Z" in page.url
    assert findings_of(page) == []
    page.get_by_role("link", name="Roll One").click()
    page.get_by_role("heading", name="Roll One").wait_for()


def test_courses_are_found_by_id_and_title(url: str, page: Any, deployment: Deployment) -> None:
    courses = [
        {"sis_id": "find-1", "title": "Órgano uno"},
        {"sis_id": "find-2", "title": "órgano dos"},
    ]
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [], courses)
    page.goto(f"{url}/#/courses")
    box = page.get_by_label("Id or title of the course")
    box.fill("ÓRGANO")
    box.press("Enter")
    page.get_by_text("2 courses:").wait_for()
    assert findings_of(page) == []
    page.get_by_label("Id or title of the course").fill("nothing like it")
    page.get_by_role("button", name="Find").click()
    page.get_by_text("The roster has no course with the id or title “nothing like it”.").wait_for()
    page.get_by_label("Id or title of the course").fill(" FIND-2 ")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="órgano dos").click()
    page.get_by_text("No student is enrolled.").wait_for()
    assert findings_of(page) == []
