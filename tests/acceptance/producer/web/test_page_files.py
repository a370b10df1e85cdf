"""Files as registrars have them: what the page says about each, and that it writes nothing else."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.accessibility import NARROW, findings_in_every_form
from support.http import serving
from support.page import card_of, check, choose, counts_of, send
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def url(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(deployment.environment, tmp_path_factory.mktemp("http") / "log") as (served, _):
        yield served


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page in a browser that has stored nothing, looked at in every form at the end."""
    opened = browser.new_page(width=NARROW, scheme="dark")
    opened.goto(url)
    yield opened
    assert findings_in_every_form(opened, ("light", "dark")) == []


def _written(tmp_path: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def test_a_first_line_of_data_is_not_lost_in_silence(page: Any, tmp_path: Path) -> None:
    choose(page, _written(tmp_path, "headless.csv", "0004711,C1\n0004712,C1\n"))
    card = card_of(page, "headless.csv")
    card.get_by_label("What it holds").select_option(label="Enrollments")
    card.get_by_label("Student's id").select_option(label="0004711")
    card.get_by_label("Course's id").select_option(label="C1")
    card.get_by_role("cell", name="0004712").wait_for()
    assert "The first line of this file looks like data: “0004711,C1”." in card.inner_text()


def test_a_file_of_ids_and_names_is_not_taken_for_students(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    choose(page, _written(tmp_path, "courses.csv", "id,name\nPF-1,Logic\n"))
    card = card_of(page, "courses.csv")
    assert (
        "It is not clear what this file holds. Its columns are: id and name." in card.inner_text()
    )
    assert page.locator("#check").is_disabled()
    card.get_by_label("What it holds").select_option(label="Courses")
    card.get_by_role("cell", name="PF-1").wait_for()
    card.get_by_role("button", name="These columns are right").click()
    send(page)
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        assert [course.title for course in client.find_courses("PF-1").courses] == ["Logic"]
        assert client.student("PF-1") is None
    page.get_by_role("link", name="Send files").click()
    choose(page, _written(tmp_path, "students.csv", "id,name\nPF-2,Ada\n"))
    card = card_of(page, "students.csv")
    assert "Your last file with these columns held courses" in card.inner_text()
    assert page.locator("#check").is_disabled()
    card.get_by_label("What it holds").select_option(label="Students")
    card.get_by_role("button", name="These columns are right").click()
    assert page.locator("#check").is_enabled()


def test_lines_that_would_be_refused_are_rows_of_the_file(page: Any, tmp_path: Path) -> None:
    some = _written(tmp_path, "some.csv", "student_id,course_id\nF1,C1\n,C1\nF2,C1\nF3\n")
    windows = _written(tmp_path, "windows.csv", "sis_id,name\nW1,J\xfcrgen\n", "cp1252")
    choose(page, some, windows)
    assert "4 rows; 2 lines would be refused." in card_of(page, "some.csv").inner_text()
    assert "1 row; all lines would be refused." in card_of(page, "windows.csv").inner_text()


def test_a_file_without_rows_is_not_sent(page: Any, tmp_path: Path) -> None:
    choose(page, _written(tmp_path, "header.csv", "student_id,course_id\n"))
    text = card_of(page, "header.csv").inner_text()
    assert "This file has a header but no rows, so there is nothing to send." in text
    assert text.count("no rows") == 1
    assert page.locator("#check").is_disabled()


def test_another_file_of_the_same_name_takes_its_place_and_says_so(
    page: Any, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    choose(page, _written(first, "export.csv", "sis_id,name\nP1,Ada\n"))
    assert "takes the place" not in card_of(page, "export.csv").inner_text()
    choose(page, _written(second, "export.csv", "sis_id,name\nP2,Bea\nP3,Cem\n"))
    text = card_of(page, "export.csv").inner_text()
    assert "It takes the place of the file with this name that you chose before." in text
    assert "2 rows." in text


def test_a_file_that_changed_is_no_longer_called_checked(page: Any, tmp_path: Path) -> None:
    file = _written(tmp_path, "one.csv", "sis_id,name\nQ1,Ada\n")
    choose(page, file)
    check(page)
    card = card_of(page, "one.csv")
    text = card.inner_text()
    assert "Checked: the only row can be read." in text
    assert "Whether the roster has" not in text  # It is the roster.
    file.write_text("sis_id,name\nQ1,Bea\n")
    os.utime(file, (1, 1))
    page.locator("#send").click()
    card.get_by_text("The file changed since you chose it.").wait_for()
    assert "Checked" not in card.inner_text()


def test_what_failed_after_the_file_arrived_is_not_called_unsent(page: Any, tmp_path: Path) -> None:
    choose(page, _written(tmp_path, "part.csv", "sis_id,name\nR1,Ada\n"))
    check(page)
    problem = '{"code": "broker_unavailable", "detail": ""}'
    page.route("**/batches?*batch_id=*", lambda route: route.fulfill(status=503, body=problem))
    page.locator("#send").click()
    page.get_by_text("Not sent, or not completely.").wait_for()
    assert page.get_by_role("heading", level=1).inner_text() == "part.csv"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Lines that the service had already accepted count").wait_for()
    assert "Nothing of this file was sent" not in page.inner_text("main")


def test_what_the_service_refuses_before_it_begins_is_called_unsent(
    page: Any, tmp_path: Path
) -> None:
    choose(page, _written(tmp_path, "none.csv", "sis_id,name\nR2,Ada\n"))
    check(page)
    problem = '{"code": "scope_required", "detail": "The token lacks the scope submit."}'
    page.route("**/batches?*batch_id=*", lambda route: route.fulfill(status=403, body=problem))
    page.locator("#send").click()
    page.get_by_text("Not sent.", exact=True).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled. Nothing of this file was sent.").wait_for()
    page.unroute("**/batches?*batch_id=*")
    page.get_by_role("link", name="Send files").click()
    choose(page, tmp_path / "none.csv")
    send(page)
    assert counts_of(page).startswith("1 row: 1 ")
