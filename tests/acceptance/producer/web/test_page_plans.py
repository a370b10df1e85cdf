"""How the page shows what an upload would change, and how its reader decides about it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from producer.contract.plans import PlanState
from support.accessibility import findings_of
from support.commands import write_lines
from support.http import serving
from support.page import FINISHED, check, choose, counts_of
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]

STUDENTS = [f"PP{number:02}" for number in range(20)]


@pytest.fixture(scope="module")
def url(module_deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    module_deployment.enroll("data-sets", "create", "sis:fall")
    with EnrollmentClient(module_deployment.broker_url, timeout=20) as client:
        roster = [{"sis_id": sis_id, "name": f"Student {sis_id}"} for sis_id in STUDENTS]
        enter_roster(client, roster, [{"sis_id": "PLAN-1", "title": "Planning"}])
    log = tmp_path_factory.mktemp("http") / "log"
    with serving(module_deployment.environment, log) as (served, _):
        yield served


@pytest.fixture
def page(browser: Any, url: str) -> Any:
    opened = browser.new_page()
    opened.goto(url)
    return opened


@pytest.fixture
def client(module_deployment: Deployment) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(module_deployment.broker_url, timeout=20) as made:
        yield made


def nightly(folder: Path, students: list[str]) -> Path:
    """Write the file of a night, in which these students are enrolled."""
    lines = [f"{student},PLAN-1" for student in students]
    return write_lines(folder / "night.csv", "student_id,course_id", *lines)


def send_as_snapshot(page: Any, file: Path) -> None:
    choose(page, file)
    page.get_by_text("Look before anything changes").click()
    page.get_by_label("The file lists everybody").fill("sis:fall")
    assert findings_of(page) == []
    check(page)
    page.locator("#send").click()


def enrolled(client: EnrollmentClient) -> set[str]:
    return {student.sis_id for student in client.enrolled_students("PLAN-1")}


def test_a_nightly_file_that_lost_most_rows_waits_until_the_reader_approves(
    page: Any, client: EnrollmentClient, tmp_path: Path
) -> None:
    send_as_snapshot(page, nightly(tmp_path, STUDENTS))
    page.get_by_text(FINISHED).wait_for()
    assert counts_of(page) == "20 rows: 20 newly enrolled."
    page.get_by_role("link", name="Send files").click()
    send_as_snapshot(page, nightly(tmp_path, STUDENTS[:5]))
    plan = page.get_by_role("region", name="What would change")
    plan.get_by_role("heading", name="This upload waits for a decision").wait_for()
    text = plan.inner_text()
    assert "The data set sis:fall had 20 enrollments before." in text
    assert "15 of them are not in the file: 15 would be dropped." in text
    row = plan.get_by_role("table", name="Drops by course").locator("tbody tr")
    assert row.locator(".number").all_inner_texts() == ["20", "15"]
    plan.get_by_role("button", name="Show who would be dropped").click()
    who = plan.get_by_role("table", name="Who would be dropped").locator("tbody tr")
    who.nth(14).wait_for()
    assert who.count() == 15
    assert "Student PP05" in who.first.inner_text()
    assert findings_of(page) == []
    with page.expect_download() as download:
        plan.get_by_role("button", name="Download all drops").click()
    assert download.value.path().read_text().count("PLAN-1") == 15
    assert enrolled(client) == set(STUDENTS)
    page.set_viewport_size({"width": 375, "height": 700})
    plan.get_by_role("button", name="Approve …").press("Enter")
    assert findings_of(page) == []
    plan.get_by_role("button", name="Back").press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.get_by_text(FINISHED).wait_for()
    wait_for(lambda: enrolled(client) == set(STUDENTS[:5]))
    row.locator(".number").nth(2).wait_for()
    assert page.evaluate("document.activeElement.textContent") == "What was planned"
    assert row.locator(".number").all_inner_texts() == ["20", "15", "15"]


def test_a_discarded_upload_changes_nothing_and_says_so(
    page: Any, client: EnrollmentClient, url: str, tmp_path: Path
) -> None:
    before = enrolled(client)
    choose(page, nightly(tmp_path, [*STUDENTS[:7], "PP-NO"]))
    page.get_by_text("Look before anything changes").click()
    page.get_by_label("Show me first what would change").check()
    check(page)
    page.locator("#send").click()
    plan = page.get_by_role("region", name="What would change")
    plan.get_by_role("heading", name="This upload waits for a decision").wait_for()
    assert "The student is not in the roster: 1 line" in plan.inner_text()
    with page.expect_download() as download:
        plan.get_by_role("button", name="Download these lines").click()
    assert "unknown_student" in download.value.path().read_text()
    assert "PP-NO" in download.value.path().read_text()
    page.goto(f"{url}/#/batches?state=held")
    page.get_by_role("link", name="night.csv").first.click()
    plan.get_by_role("button", name="Discard …").click()
    plan.get_by_role("button", name="Yes, discard it").click()
    plan.get_by_role("heading", name="This upload was discarded").wait_for()
    assert findings_of(page) == []
    assert enrolled(client) == before


def test_a_file_that_is_not_complete_may_belong_to_a_data_set(
    page: Any, client: EnrollmentClient, tmp_path: Path
) -> None:
    client.submit_batch("courses", [{"sis_id": "SET-1"}])
    choose(page, write_lines(tmp_path / "late.csv", "student_id,course_id", f"{STUDENTS[0]},SET-1"))
    page.get_by_text("Look before anything changes").click()
    page.get_by_label("The file belongs to this data set").fill(" sis:late ")
    assert findings_of(page) == []
    check(page)
    page.locator("#send").click()
    page.get_by_text(FINISHED).wait_for()
    (sent,) = (batch for batch in client.recent_batches() if batch.file_name == "late.csv")
    assert (sent.data_set, sent.plan_id, sent.books.enrolled) == ("sis:late", None, 1)


def test_a_dry_run_is_only_shown(page: Any, client: EnrollmentClient, tmp_path: Path) -> None:
    before = enrolled(client)
    choose(page, nightly(tmp_path, [*STUDENTS[:9], "pp19"]))
    page.get_by_text("Look before anything changes").click()
    page.get_by_label("Only show me what it would do").check()
    check(page)
    page.locator("#send").click()
    plan = page.get_by_role("region", name="What would change")
    plan.get_by_role("heading", name="What this file would do").wait_for()
    text = plan.inner_text()
    assert "Nothing was changed, and nothing will be." in text
    assert "Enrollments: 10 rows; if applied: " in text
    assert "Likely reason: 1 id probably" in text
    assert plan.get_by_role("button", name="Approve …").count() == 0
    assert findings_of(page) == []
    assert enrolled(client) == before
    (batch,) = client.recent_batches(1)
    assert client.plan(batch.batch_id).state is PlanState.PLANNED


def test_a_dry_run_says_why_the_file_would_wait(
    page: Any, url: str, client: EnrollmentClient, tmp_path: Path
) -> None:
    empty = write_lines(tmp_path / "empty.csv", "student_id,course_id")
    batch = client.submit_file(empty, dry_run=True, snapshot="sis:fall").batch_id
    wait_for(lambda: client.plan(batch).state is PlanState.PLANNED)
    page.goto(f"{url}/#/batches/{batch}")
    plan = page.get_by_role("region", name="What would change")
    plan.get_by_text("If you send it to be applied, it waits for an approval:").wait_for()
    plan.get_by_text("The file enrolls no student.").wait_for()


def test_a_finished_upload_is_undone_after_its_reader_has_seen_what_would_change(
    page: Any, url: str, client: EnrollmentClient, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": 375, "height": 700})
    client.submit_batch("courses", [{"sis_id": "UNDO-1", "title": "Second thoughts"}])
    lines = [f"{student},UNDO-1" for student in STUDENTS[:3]]
    wrong = client.submit_file(write_lines(tmp_path / "w.csv", "student_id,course_id", *lines))
    client.wait(wrong, timeout=30)
    client.enroll({"student_id": STUDENTS[0], "course_ids": ["UNDO-1"]})
    page.goto(f"{url}/#/batches/{wrong.batch_id}")
    undo = page.get_by_role("region", name="Undo")
    undo.get_by_role("button", name="Undo …").press("Enter")
    undo.get_by_role("heading", name="What undoing this upload would change").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H2"
    text = undo.inner_text()
    assert "2 enrollments that this upload made would be dropped." in text
    assert "1 enrollment stays as it is, because a later request decided about it." in text
    courses = undo.get_by_role("table", name="Changes by course").locator("tbody tr")
    assert courses.locator(".number").all_inner_texts() == ["2", "0"]
    who = undo.get_by_role("table", name="Who would change").locator("tbody tr")
    assert who.count() == 2
    assert "Student PP01" in who.first.inner_text()
    assert findings_of(page) == []
    undo.get_by_role("button", name="Back").press("Enter")
    assert page.evaluate("document.activeElement.id") == "undo"
    page.keyboard.press("Enter")
    undo.get_by_role("button", name="Yes, undo it").press("Enter")
    page.get_by_role("heading", name="Undo of w.csv").wait_for()
    page.get_by_text(FINISHED).wait_for()
    assert counts_of(page) == "3 rows: 2 dropped and 1 overtaken by something later."
    (left,) = client.enrolled_students("UNDO-1")
    assert left.sis_id == STUDENTS[0]
    assert findings_of(page) == []
    page.get_by_role("link", name="an earlier upload").click()
    page.get_by_role("heading", name="w.csv").wait_for()
    page.get_by_text("This upload was undone on").wait_for()
    assert undo.get_by_role("button").count() == 0
    assert findings_of(page) == []
