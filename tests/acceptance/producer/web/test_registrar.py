"""The path of a registrar: three files with mistakes, until every student is enrolled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.accessibility import findings_of
from support.browser import PATIENCE, violations_of
from support.http import serving
from support.registrar_files import MISTAKES, REPEATED_HEADER, write_files
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]

ENROLLED = {"00123": {"ALG-1", "GEO-1", "LOGIC-1"}, "00124": {"ALG-1", "LOGIC-1"}}


class Registrar:
    """A reader of the page, with what her browser reports."""

    def __init__(self, browser: Any, url: str) -> None:
        self._context = browser.new_context(viewport={"width": 1280, "height": 900})
        self._context.set_default_timeout(PATIENCE)
        self._url = url
        self.said: list[str] = []
        self.violations: list[str] = []
        self.page: Any = None

    def open(self, address: str = "") -> Any:
        """Open an address of the page in a new tab."""
        self.page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.violations = violations_of(self.page)
        self.page.goto(f"{self._url}/{address}")
        return self.page

    def close(self) -> None:
        """Close the browser's window, with all that is stored in it."""
        self._context.close()

    def check(self) -> None:
        """Check the state of the page: axe-core finds nothing, and no policy is broken."""
        assert findings_of(self.page) == []
        assert self.violations == []
        assert self.said == []

    def row(self, line: int) -> Any:
        """Return the row of a refused line that is corrected."""
        return self.page.locator(f"tr[data-line='{line}']")

    def type_corrections(self, name: str) -> None:
        """Correct all refused lines of a file, and tick those that are right as they are."""
        for mistake in MISTAKES[name]:
            row = self.row(mistake.line)
            assert mistake.reason in row.inner_text()
            for column, text in mistake.cells.items():
                row.get_by_label(f"{column}, line {mistake.line}").fill(text)
            if not mistake.cells:
                row.get_by_role("checkbox").check()


@pytest.fixture
def registrar(browser: Any, module_deployment: Deployment, tmp_path: Path) -> Iterator[Registrar]:
    with serving(module_deployment.environment, tmp_path / "log") as (url, _):
        made = Registrar(browser, url)
        yield made
        made.close()


def test_three_files_with_mistakes_are_corrected_until_every_student_is_enrolled(
    registrar: Registrar, module_deployment: Deployment, tmp_path: Path
) -> None:
    page = registrar.open()
    page.set_input_files("#file", [str(path) for path in write_files(tmp_path)])
    # The page has recognized what the column is, and she has a look at it.
    page.get_by_role("button", name="These columns are right").click()
    registrar.check()
    page.get_by_role("button", name="Check 3 files").click()
    page.get_by_role("button", name="Send 3 files").click()
    page.get_by_role("link", name="Show what was refused").nth(2).wait_for()
    registrar.check()
    # She closes the tab, and finds the uploads in the list.
    page.close()
    for name in ("students.csv", "courses.csv"):
        _correct(registrar, name)
    _close_the_tab_halfway(registrar)
    with EnrollmentClient(module_deployment.broker_url, timeout=20) as client:
        students = {id_: client.student(id_) for id_ in ENROLLED}
    assert {
        id_: {course.sis_id for course in student.courses}
        for id_, student in students.items()
        if student is not None
    } == ENROLLED
    _explain_and_drop(registrar)


def _open_upload(registrar: Registrar, name: str) -> Any:
    """Find the first upload of a file in the list, and open it."""
    page = registrar.open("#/batches")
    page.get_by_role("link", name=name, exact=True).last.click()
    page.get_by_role("heading", name="What was refused, and why").wait_for()
    registrar.check()
    return page


def _correct(registrar: Registrar, name: str) -> None:
    """Correct all lines of a file in place, and send them."""
    page = _open_upload(registrar, name)
    page.get_by_role("link", name="Correct the lines here").click()
    page.get_by_role("table", name="Refused lines").wait_for()
    registrar.type_corrections(name)
    count = len(MISTAKES[name])
    page.get_by_role("button", name=f"Send the {count} corrected lines").click()
    page.get_by_text(f"{count} lines went through.").wait_for()
    registrar.check()
    if name == REPEATED_HEADER[0]:
        assert "needs no correction" in registrar.row(REPEATED_HEADER[1]).inner_text()
    else:
        page.get_by_text("Every refused line was corrected and sent.").wait_for()
    page.close()


def _close_the_tab_halfway(registrar: Registrar) -> None:
    """Correct the enrollments, with a mistake; the tab is closed before they are sent."""
    page = _open_upload(registrar, "enrollments.csv")
    text = page.inner_text("main")
    assert "Likely reason" in text
    assert "00123" in text
    page.get_by_role("link", name="Correct the lines here").click()
    page.get_by_role("table", name="Refused lines").wait_for()
    page.get_by_role("button", name="Use “00123”").click()
    registrar.type_corrections("enrollments.csv")
    registrar.row(4).get_by_label("course_id, line 4").fill("STILL-WRONG")
    registrar.row(7).get_by_label("as_of, line 7").fill("tomorrow")
    address = page.url.partition("/#")[2]
    page.close()
    page = registrar.open(f"#{address}")
    page.get_by_role("button", name="Send the 8 corrected lines").click()
    page.get_by_text("6 lines went through. 2 lines came back").wait_for()
    registrar.check()
    assert "No course has the id “STILL-WRONG”" in registrar.row(4).inner_text()
    assert "The time is not understood" in registrar.row(7).inner_text()
    registrar.row(4).get_by_label("course_id, line 4").fill("LOGIC-1")
    registrar.row(7).get_by_label("as_of, line 7").fill("")
    page.get_by_role("button", name="Send the 2 corrected lines").click()
    page.get_by_text("Every refused line was corrected and sent.").wait_for()
    page.get_by_role("link", name="Show what was sent").click()
    page.get_by_text("Corrected lines of an earlier upload").wait_for()
    registrar.check()
    page.close()


def _explain_and_drop(registrar: Registrar) -> None:
    """Find a student by a part of the name, see what happened, and drop one enrollment."""
    page = registrar.open("#/students")
    page.get_by_label("Id, name or e-mail").fill(" example BEN ")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Ben Example").click()
    page.get_by_role("heading", name="Ben Example").wait_for()
    history = page.get_by_role("table", name="What happened")
    assert "No course has the id “LOGIK-1”." in history.inner_text()
    registrar.check()
    page.get_by_role("button", name="Drop from Algebra").click()
    page.get_by_text("Ben Example (00124) will no longer be enrolled in Algebra (ALG-1)").wait_for()
    registrar.check()
    page.get_by_label("Reason").fill("entered by mistake")
    page.get_by_role("button", name="Drop", exact=True).click()
    page.get_by_text("Ben Example (00124) was dropped from Algebra (ALG-1).").wait_for()
    assert "entered by mistake" in history.inner_text()
    assert page.get_by_role("button", name="Drop from Algebra").count() == 0
    registrar.check()
    page.close()
