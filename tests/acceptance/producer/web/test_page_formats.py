"""Packages and workbooks on the page: chosen, described, sent, watched, and repaired."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.accessibility import findings_of
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


@pytest.fixture(params=[1280, 375])
def page(browser: Any, url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, wide or narrow, in a browser that has stored nothing."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    context.set_default_timeout(20_000)
    opened = context.new_page()
    opened.goto(url)
    yield opened
    context.close()


def look(page: Any) -> None:
    """Look for findings of axe, and for what a narrow screen cuts off."""
    assert findings_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


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
    prefix = f"p{page.viewport_size['width']}"
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
    shoot(page, f"package-card-{prefix}")
    send(page, 3)
    assert page.get_by_role("heading", level=3).all_inner_texts() == [
        "users.csv",
        "classes.csv",
        "enrollments.csv",
    ]
    look(page)
    shoot(page, f"package-sent-{prefix}")
    page.reload()
    page.get_by_text(FINISHED).nth(2).wait_for()
    page.get_by_role("heading", name=name).wait_for()
    repair(page, "users.csv", {"givenName, line 3": "Alan"})
    page.go_back()
    page.go_back()
    repair(page, "enrollments.csv", {"classSourcedId, line 3": f"{prefix}-c"}, shot=prefix)
    page.goto(f"{url}/#/batches")
    page.get_by_role("link", name=name).first.wait_for()
    assert page.get_by_role("link", name=name).count() == 3
    shoot(page, f"package-list-{prefix}")
    look(page)
    page.get_by_role("link", name=name).first.click()
    page.get_by_text(FINISHED).nth(2).wait_for()
    page.goto(f"{url}/#/")
    page.reload()
    page.wait_for_selector("#file")
    assert page.get_by_text("Not finished when you left").count() == 0
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        assert client.student(f"{prefix}-2").name == "Alan Turing"


def repair(page: Any, name: str, cells: dict[str, str], shot: str = "") -> None:
    """Correct lines of one file of a package in place, and send them again."""
    part = page.get_by_role("region", name=name)
    part.get_by_role("link", name="Show what was refused, and correct it").click()
    page.get_by_role("link", name="Correct the lines here").click()
    for label, text in cells.items():
        box = page.get_by_label(label)
        assert box.get_attribute("aria-invalid") == "true"
        box.fill(text)
    look(page)
    if shot:
        shoot(page, f"package-repair-{shot}")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()


def test_a_sheet_of_a_workbook_is_chosen_sent_and_repaired(
    page: Any, url: str, deployment: Deployment, tmp_path: Path
) -> None:
    prefix = f"w{page.viewport_size['width']}"
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
    shoot(page, f"workbook-card-{prefix}")
    send(page)
    assert counts_of(page) == "2 rows: 1 newly enrolled and 1 refused."
    page.get_by_role("link", name="Correct the lines here").click()
    box = page.get_by_label("Matrikelnummer, line 3")
    assert box.get_attribute("aria-invalid") == "true"
    box.fill(f"{prefix}-1")
    look(page)
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()


def shoot(page, name):
    page.screenshot(path=f"/tmp/s10/shots-t4/{name}.png", full_page=True)
