"""Packages and workbooks on the page: chosen, described, sent, watched, and repaired."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from producer.client import EnrollmentClient
from support.accessibility import NARROW, findings_in_every_form
from support.http import serving
from support.packages import zipped_package
from support.page import FINISHED, card_of, check, choose, counts_of, send
from support.rosters import enter_roster
from support.workbooks import workbook
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def url(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(deployment.environment, tmp_path_factory.mktemp("http") / "log") as (served, _):
        yield served


@pytest.fixture
def page(browser: Any, url: str) -> Any:
    """The page on a narrow screen, in a browser that has stored nothing."""
    opened = browser.new_page(width=NARROW, height=900)
    opened.goto(url)
    return opened


def look(page: Any) -> None:
    """Look at this state of the page on a wide and on a narrow screen."""
    assert findings_in_every_form(page) == []


def oneroster(prefix: str) -> dict[str, list[str]]:
    """Return an export of two students and a teacher; an enrollment names an unknown class."""
    return {
        "manifest.csv": ["propertyName,value", "oneroster.version,1.2", "file.enrollments,bulk"],
        "users.csv": [
            "sourcedId,status,enabledUser,username,givenName,familyName,email",
            f"{prefix}-1,,true,ada,Ada,Lovelace,ada@school.test",
            f"{prefix}-2,,true,alan,{'x' * 300},Turing,",
            f"{prefix}-3,,true,grace,Grace,Hopper,",
        ],
        "roles.csv": [
            "sourcedId,status,userSourcedId,roleType,role",
            f"r-1,,{prefix}-1,primary,student",
            f"r-2,,{prefix}-2,primary,student",
            f"r-3,,{prefix}-3,primary,teacher",
        ],
        "classes.csv": ["sourcedId,status,title,classType", f"{prefix}-c,,Algebra,scheduled"],
        "enrollments.csv": [
            "sourcedId,status,classSourcedId,schoolSourcedId,userSourcedId,role,beginDate,endDate",
            f"e-1,,{prefix}-c,o-1,{prefix}-1,student,,",
            f"e-2,,{prefix}-x,o-1,{prefix}-1,student,,",
            f"e-3,,{prefix}-c,o-1,{prefix}-3,teacher,,",
        ],
    }


def test_a_package_is_described_sent_watched_and_repaired(
    page: Any, url: str, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "p375"
    name = f"{prefix} export.zip"
    file = zipped_package(oneroster(prefix), tmp_path / name)
    choose(page, file)
    card = card_of(page, name)
    assert "A package of 3 files from OneRoster" in card.inner_text()
    for words in (
        "users.csv: students, 1 row",
        "Passed over, because only students are enrolled: 1 teacher.",
        "classes.csv: courses, 1 row",
        "enrollments.csv: enrollments, 2 rows",
        "1 line would be refused",
        "The text has 307 characters; at most 255 are allowed.",
        "Ada Lovelace",
    ):
        assert words in card.inner_text()
    look(page)
    send(page, 3)
    assert page.get_by_role("heading", level=3).all_inner_texts() == [
        "users.csv",
        "classes.csv",
        "enrollments.csv",
    ]
    look(page)
    page.reload()
    page.get_by_text(FINISHED).nth(2).wait_for()
    page.get_by_role("heading", name=name).wait_for()
    repair(page, "users.csv", {"givenName, line 3": "Alan"})
    page.go_back()
    page.go_back()
    repair(page, "enrollments.csv", {"classSourcedId, line 3": f"{prefix}-c"})
    page.goto(f"{url}/#/batches")
    page.get_by_role("link", name=name).first.wait_for()
    assert page.get_by_role("link", name=name).count() == 3
    look(page)
    page.get_by_role("link", name=name).first.click()
    page.get_by_text(FINISHED).nth(2).wait_for()
    page.goto(f"{url}/#/")
    page.reload()
    page.wait_for_selector("#file")
    assert page.get_by_text("Not finished when you left").count() == 0
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        student = client.student(f"{prefix}-2")
        assert student is not None
        assert student.name == "Alan Turing"


def repair(page: Any, name: str, cells: dict[str, str]) -> None:
    """Correct lines of one file of a package in place, and send them again."""
    part = page.get_by_role("region", name=name)
    part.get_by_role("link", name="Show what was refused, and correct it").click()
    page.get_by_role("link", name="Correct the lines here").click()
    for label, text in cells.items():
        box = page.get_by_label(label)
        assert box.get_attribute("aria-invalid") == "true"
        box.fill(text)
    look(page)
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()


def test_a_sheet_of_a_workbook_is_chosen_sent_and_repaired(
    page: Any, url: str, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "w375"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [f"{prefix}-1", f"{prefix}-2"], [f"{prefix}-c"])
    sheets = {
        "Autumn": [["student_id", "course_id"], [f"{prefix}-1", f"{prefix}-c"]],
        "Spring": [
            ["Matrikelnummer", "Kursnummer"],
            [f"{prefix}-2", f"{prefix}-c"],
            [f"{prefix}-9", f"{prefix}-c"],
        ],
    }
    file = tmp_path / f"{prefix}.xlsx"
    file.write_bytes(workbook(sheets))
    choose(page, file)
    card = card_of(page, file.name)
    assert "Enrollments, sheet “Autumn” of a workbook" in card.inner_text()
    card.get_by_label("Sheet").select_option("Spring")
    card.get_by_role("button", name="These columns are right").click()
    card.get_by_role("cell", name=f"{prefix}-9").wait_for()
    look(page)
    send(page)
    assert counts_of(page) == "2 rows: 1 newly enrolled and 1 refused."
    page.get_by_role("link", name="Correct the lines here").click()
    box = page.get_by_label("Matrikelnummer, line 3")
    assert box.get_attribute("aria-invalid") == "true"
    box.fill(f"{prefix}-1")
    look(page)
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()


def test_the_columns_of_a_known_system_need_no_choice_and_are_known_again(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "s375"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [f"{prefix}-1"], [f"{prefix}-c"])
    # In this format, only the name of the file says what it holds.
    file = tmp_path / "StudentEnrollment.csv"
    file.write_text(f"Section SIS ID,SIS ID\n{prefix}-c,{prefix}-1\n{prefix}-x,{prefix}-1\n")
    choose(page, file)
    card = card_of(page, file.name)
    assert "Enrollments from School Data Sync v1, table" in card.inner_text()
    card.get_by_text("Change what it holds").click()
    assert "The columns are those of School Data Sync v1" in card.inner_text()
    assert "These columns are right" not in card.inner_text()
    look(page)
    send(page)
    assert counts_of(page) == "2 rows: 1 newly enrolled and 1 refused."
    page.get_by_role("link", name="Correct the lines here").click()
    box = page.get_by_label("Section SIS ID, line 3")
    assert box.get_attribute("aria-invalid") == "true"
    box.fill(f"{prefix}-y")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line came back").wait_for()
    page.get_by_role("link", name="Show what was sent").click()
    page.get_by_role("link", name="Correct the lines here").click()
    page.get_by_label("Section SIS ID, line 2").fill(f"{prefix}-c")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()


def test_a_large_package_is_described_once_it_is_checked(page: Any, tmp_path: Path) -> None:
    note = "x" * 200_000
    students = ["sis_id,name,note", *(f"L{number},Large,{note}" for number in range(50))]
    content = {"students.csv": students, "courses.csv": ["sis_id,title", "LC,Large"]}
    file = tmp_path / "large.zip"
    with ZipFile(file, "w") as archive:  # Not compressed.
        for name, lines in content.items():
            archive.writestr(name, "\n".join(lines))
    choose(page, file)
    card = card_of(page, file.name)
    assert "It is larger than 8 MB, so what it holds is shown once you press Check." in (
        card.inner_text()
    )
    check(page)
    assert "A package of 2 files, 10 MB. 51 rows." in card.inner_text()
    look(page)
    send(page, 2)


def test_a_file_of_a_package_without_rows_holds_nothing_up(page: Any, tmp_path: Path) -> None:
    own_id = "E375"
    content = {"students.csv": ["sis_id,name", f"{own_id},One"], "courses.csv": ["sis_id,title"]}
    choose(page, zipped_package(content, tmp_path / "empty.zip"))
    assert "courses.csv: courses, 0 rows" in card_of(page, "empty.zip").inner_text()
    send(page, 1)
    assert counts_of(page) == "1 row: 1 added or changed."
    page.get_by_role("link", name="Send files").click()
    page.wait_for_selector("#file")
    assert page.get_by_text("Not finished when you left").count() == 0


def test_a_workbook_that_cannot_be_read_says_how_to_save_it(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "binary.xlsb"
    with ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.bin", b"")
    choose(page, file)
    assert "choose “Save as” and the format “CSV UTF-8”" in card_of(page, file.name).inner_text()
    look(page)


def test_the_system_of_a_file_that_is_not_recognized_is_chosen_by_hand(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "x375"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [f"{prefix}-1", f"{prefix}-2"], [f"{prefix}-c"])
    file = tmp_path / f"{prefix}.csv"
    rows = (f"{prefix}-1,{prefix}-c,active", f"{prefix}-2,{prefix}-y,active")
    file.write_text("\n".join(("student_key,course_id,status", *rows)) + "\n")
    choose(page, file)
    card = card_of(page, file.name)
    assert "not a number of this service" in card.inner_text()
    card.get_by_text("Change what it holds").click()
    card.get_by_label("Which system it comes from").select_option(label="Clever")
    card.get_by_role("alert").get_by_text("is not a file of Clever").wait_for()
    look(page)
    card.get_by_label("Which system it comes from").select_option(label="Open edX")
    card.get_by_role("cell", name=f"{prefix}-1").wait_for()
    assert "Enrollments from Open edX" in card.inner_text()
    look(page)
    send(page)
    assert counts_of(page) == "2 rows: 1 newly enrolled and 1 refused."
    page.get_by_role("link", name="Correct the lines here").click()
    page.get_by_label("course_id, line 3").fill(f"{prefix}-c")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()
    page.get_by_role("link", name="Send files").click()
    page.wait_for_selector("#file")
    choose(page, file)  # Its columns are known, and so is the system.
    card.get_by_text("Enrollments from Open edX").wait_for()


def test_a_package_that_cannot_be_read_names_a_way_that_exists(page: Any, tmp_path: Path) -> None:
    content = {"list.csv": ["foo,bar", "1,2"], "enrollments.csv": ["student_id,course_id", "S,C"]}
    choose(page, zipped_package(content, tmp_path / "mixed.zip"))
    told = card_of(page, "mixed.zip").get_by_role("alert").inner_text()
    assert "remove it from the archive" in told
    assert "Choose below" not in told
    assert page.get_by_role("button", name="Check the file").is_disabled()
    look(page)


def test_every_line_of_a_file_of_a_system_may_be_read_as_one_of_our_own(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "y375"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [f"{prefix}-1", f"{prefix}-2"], [f"{prefix}-c"])
    file = tmp_path / f"{prefix}.csv"
    rows = (f"{prefix}-c,{prefix}-1,student,active", f"{prefix}-c,{prefix}-2,teacher,active")
    file.write_text("\n".join(("course_id,user_id,role,status", *rows)) + "\n")
    choose(page, file)
    card = card_of(page, file.name)
    card.get_by_text("Enrollments from Canvas SIS import").wait_for()
    card.get_by_text("Change what it holds").click()
    card.get_by_label("Which system it comes from").select_option("plain")
    card.get_by_role("button", name="These columns are right").click()
    card.get_by_role("cell", name=f"{prefix}-2").wait_for()
    look(page)
    send(page)
    assert counts_of(page) == "2 rows: 2 newly enrolled."


def test_lines_count_when_their_file_says_also_after_they_were_corrected(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "m375"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [f"{prefix}-1"], [f"{prefix}-c", f"{prefix}-d"])
    file = tmp_path / f"{prefix}.csv"
    changed = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    lines = ["sourcedId,status,dateLastModified,classSourcedId,userSourcedId,role"]
    for course in "cx":
        line = f"{changed:%Y-%m-%dT%H:%M:%SZ},{prefix}-{course},{prefix}-1,student"
        lines.append(f"e-{course},active,{line}")
    file.write_text("\n".join(lines) + "\n")
    choose(page, file)
    card = card_of(page, file.name)
    card.get_by_text("Change what it holds").click()
    card.get_by_label("When each line counts").select_option("file")
    card.get_by_role("cell", name=f"{prefix}-1").first.wait_for()
    look(page)
    send(page)
    page.get_by_role("link", name="Correct the lines here").click()
    page.get_by_label("classSourcedId, line 3").fill(f"{prefix}-d")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        entries = client.history(f"{prefix}-1").entries
    moments = {
        entry.course.sis_id: entry.moment for entry in entries if entry.course and not entry.errors
    }
    assert moments == {f"{prefix}-c": changed, f"{prefix}-d": changed}


def test_the_sections_of_a_course_may_be_one_also_after_lines_were_corrected(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "o375"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, [f"{prefix}-1"], [f"{prefix}-k", f"{prefix}-l"])
    file = tmp_path / f"{prefix}.csv"
    rows = [f"{prefix}-{course},{prefix}-1,student,S,deleted" for course in "kx"]
    file.write_text("\n".join(("course_id,user_id,role,section_id,status", *rows)) + "\n")
    choose(page, file)
    card = card_of(page, file.name)
    card.get_by_text("Change what it holds").click()
    assert card.get_by_label("Leaving a section").count() == 0
    card.get_by_role("button", name="Choose other columns").click()
    card.get_by_label("Course's id (needed)").select_option("{course_id}")
    card.get_by_text("or choose below that each course has one section").first.wait_for()
    look(page)
    card.get_by_label("Leaving a section").select_option("one")
    card.get_by_role("cell", name=f"{prefix}-k").wait_for()
    look(page)
    send(page)
    page.get_by_role("link", name="Correct the lines here").click()
    page.get_by_label("course_id, line 3").fill(f"{prefix}-l")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()
