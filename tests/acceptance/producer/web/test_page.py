"""The page for people, in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.http import serving
from support.page import card_of, choose, choose_column, counts_of, heard_by, send, show_student
from support.rosters import enter_roster
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


def test_a_file_with_mistakes_is_submitted_and_its_refusals_are_read(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        students = [{"sis_id": "P1", "name": "Page One"}]
        enter_roster(client, students, [{"sis_id": "PC1", "title": "Reading"}])
    file = tmp_path / "mistakes.csv"
    file.write_text(
        'who,course_sis_id,reason\nP1,PC1,"fine, really"\nP1,NOPE,<b>bold</b>\nghost,PC1,\n'
        "ghost,NOPE,\n"
    )
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        messages = heard_by(page)
        page.goto(url)
        choose(page, file)
        card = card_of(page, "mistakes.csv")
        assert "no column that is known as the student's id" in card.inner_text()
        choose_column(page, "mistakes.csv", "Student's id", "who")
        card.get_by_text("fine, really").wait_for()
        assert "<b>bold</b>" in card.inner_text()
        send(page)
        assert counts_of(page) == "4 rows: 1 newly enrolled and 3 refused."
        page.get_by_text("No student has the id “ghost”.").first.wait_for()
        shown = page.inner_text("main")
        assert "The course is not in the roster" in shown
        assert "<b>bold</b>" in shown
        with page.expect_download() as download:
            page.get_by_role("button", name="Download for a text editor").click()
        text = Path(download.value.path()).read_text()
        assert text.splitlines()[1].endswith(",P1,NOPE,<b>bold</b>")
        about = show_student(page, url, "P1")
        assert about.get_by_role("heading", level=1).inner_text() == "Page One"
        assert "Reading" in about.inner_text()
        about = show_student(page, url, "ghost")
        assert "The roster has no student with the id “ghost”" in about.inner_text()
        assert "No student has the id “ghost”" in about.inner_text()
        assert "Requests for this id were refused" in about.inner_text()
        assert "lines 4 and 5" in about.inner_text()
        about = show_student(page, url, "nobody at all")
        assert "Check the id" in about.inner_text()
        assert [line for line in messages if "404" not in line] == []
        page.close()


def test_one_of_two_columns_for_a_student_is_chosen_and_keys_are_noticed(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["P2", "P3"], [{"sis_id": "PC2", "title": "Writing"}])
        student = client.student("P2")
        assert student is not None
    both, records = tmp_path / "both.csv", tmp_path / "keys.jsonl"
    both.write_text(f"student_id,student_key,course_id\nP3,{student.id},PC2\n")
    records.write_text(f'{{"student_id": {student.id}, "course_ids": ["PC2"]}}\n')
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        page.goto(url)
        choose(page, both)
        two = "This file has 2 columns for the student's id: student_id and student_key."
        assert two in card_of(page, "both.csv").inner_text()
        choose_column(page, "both.csv", "Student's number here", "student_key")
        card_of(page, "both.csv").get_by_text("The first rows as they").wait_for()
        send(page)
        about = show_student(page, url, "P2")
        assert "P2" in about.inner_text()
        assert "Writing" in about.inner_text()
        page.goto(f"{url}/#/")
        page.wait_for_selector("#file")
        choose(page, records)
        page.get_by_text("In JSON, an integer is a number of this service").wait_for()
        page.close()
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        other = client.student("P3")
        assert other is not None
        assert other.courses == ()


@pytest.mark.parametrize(
    "content",
    [
        "STUDENT_ID,Course_Id\nP4,PC4\n",
        "Student ID;Course ID\r\nP4;PC4\r\n",
        "sep=;\r\nstudent_id;course_id\r\nP4;PC4\r\n",
        "student_id\tcourse_id\rP4\tPC4\r",
        "\n;;\nstudent_id;course_id;a,b,c,d\nP4;PC4;\n",
        '"student_id","course_id"\n"P4","PC4"\n',
    ],
)
def test_the_page_understands_a_header_as_the_service_does(
    browser: Any, deployment: Deployment, tmp_path: Path, content: str
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["P4"], [{"sis_id": "PC4", "title": "Arithmetic"}])
    file = tmp_path / "file.csv"
    file.write_bytes(content.encode())
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        page.goto(url)
        choose(page, file)
        card = card_of(page, "file.csv")
        card.get_by_text("Change what it holds").click()
        for label in ("Student's id", "Course's id"):
            chosen = card.get_by_label(label).locator("option:checked").inner_text()
            assert chosen.endswith("(recognized)")
        assert card.locator(".problem").count() == 0
        assert card.locator("tbody td").all_inner_texts()[1:] == ["P4", "PC4"]
        send(page)
        assert counts_of(page).startswith("1 row: 1 ")
        assert "refused" not in counts_of(page)
        page.close()


def test_the_same_file_is_tried_again_after_the_roster_was_corrected(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "early.csv"
    file.write_text("student_id,course_id\nP5,PC5\n")
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        page.goto(url)
        choose(page, file)
        send(page)
        page.get_by_text("No student has the id “P5”").first.wait_for()
        first = page.url
        with EnrollmentClient(deployment.broker_url, timeout=20) as client:
            enter_roster(client, ["P5"], [{"sis_id": "PC5", "title": "Drawing"}])
        page.get_by_role("link", name="Send files").click()
        choose(page, file)
        send(page)
        assert page.url != first
        assert counts_of(page) == "1 row: 1 newly enrolled."
        assert page.get_by_text("No student has the id “P5”").count() == 0
        page.close()


def test_drops_are_counted_and_shown_with_their_reason(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["P9"], ["PC8", "PC9"])
        client.enroll({"student_id": "P9", "course_ids": ["PC9"]})
    file = tmp_path / "changes.csv"
    file.write_text(
        "student_id,course_id,Action,reason\nP9,PC9,drop,moved <b>\nP9,PC8,drop,\nP9,PC8,enroll,\n"
    )
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        page.goto(url)
        choose(page, file)
        card = card_of(page, "changes.csv")
        card.get_by_text("Change what it holds").click()
        chosen = card.get_by_label("Enroll or drop").locator("option:checked")
        assert chosen.inner_text() == "Action (recognized)"
        send(page)
        assert counts_of(page).startswith("3 rows: 1 newly enrolled, 1 dropped")
        about = show_student(page, url, "P9")
        rows = page.get_by_role("table", name="What happened").locator("tbody tr")
        (dropped,) = (row for row in rows.all_inner_texts() if "PC9" in row and "moved" in row)
        assert "dropped" in dropped.lower()
        assert "moved <b>" in dropped
        assert "PC8" in about.inner_text()
        page.close()
