"""Refused lines are corrected on the page, by keyboard, on a narrow screen, and after a failure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.accessibility import findings_of
from support.commands import write_lines
from support.http import serving
from support.page import choose, send
from support.rosters import enter_roster
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


@pytest.fixture
def url(deployment: Deployment, tmp_path: Path) -> Iterator[str]:
    with serving(deployment.environment, tmp_path / "log") as (served, _):
        yield served


def refused_batch(deployment: Deployment, file: Path, **options: Any) -> str:
    """Submit a file, wait until it is done, and return the id of its batch."""
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        batch = client.submit_file(file, **options)
        client.wait(batch)
    return batch.batch_id


def courses_of(deployment: Deployment, student_id: str) -> set[str]:
    """Return the SIS ids of the courses that a student is enrolled in."""
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        student = client.student(student_id)
        assert student is not None
        return {course.sis_id for course in student.courses}


def test_lines_are_corrected_by_keyboard_alone_on_a_narrow_dark_screen(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["K1", "K2", "K3"], ["KC-1", "KC-2"])
    lines = ("K1,KX-1,a", "K2,KX-1,b", "K3,KX-1,c", "K3,KC-9,d")
    batch_id = refused_batch(
        deployment,
        write_lines(tmp_path / "k.csv", "student_id,course_id,note", *lines),
        data_set="feed",
    )
    page = browser.new_page(width=375, height=700, scheme="dark")
    page.goto(f"{url}/#/batches/{batch_id}/repair")
    page.get_by_role("table", name="Refused lines").wait_for()
    page.get_by_role("button", name="Select all, as they are now").focus()
    _press(page, "Tab", until="student_id, line 2")
    page.keyboard.press("Tab")
    page.keyboard.type("KC-1")  # What has the focus by Tab is selected, so this replaces it.
    page.keyboard.press("Enter")
    page.keyboard.type("wrong")
    page.keyboard.press("Escape")
    assert _focused(page) == "course_id, line 3"
    assert page.get_by_label("course_id, line 3").input_value() == "KX-1"
    page.keyboard.press("ArrowUp")
    _press(page, "Tab", until="Change “KX-1” in 2 other lines, too")
    page.keyboard.press("Enter")
    assert page.get_by_label("course_id, line 4").input_value() == "KC-1"
    assert page.get_by_label("course_id, line 5").input_value() == "KC-9"
    assert findings_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    _press(page, "Tab", until="Send the 3 corrected lines")
    page.keyboard.press("Enter")
    page.get_by_text("3 lines went through.").wait_for()
    assert page.get_by_role("row").count() == 2  # The head, and the line that is still wrong.
    assert findings_of(page) == []
    assert courses_of(deployment, "K2") == {"KC-1"}
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        (corrected,) = client.recent_batches(1)
    assert (corrected.books.enrolled, corrected.data_set) == (3, "feed")


def _focused(page: Any) -> str:
    name = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
    text: str = page.evaluate(name)
    return text


_IS_SEEN = """() => {
  const {left, right, top, bottom} = document.activeElement.getBoundingClientRect();
  const seen = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return top >= 0 && bottom <= innerHeight && document.activeElement.contains(seen);
}"""


def _press(page: Any, key: str, until: str) -> None:
    for _ in range(60):
        page.keyboard.press(key)
        if _focused(page) == until:
            assert page.evaluate(_IS_SEEN), f"{until} is hidden behind something"
            return
    pytest.fail(f"{until} is never reached; the last one is {_focused(page)}")


def test_corrected_lines_of_drops_are_drops_with_the_same_mapping(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["D1"], ["DC-1", "DC-2"])
        client.enroll({"student_id": "D1", "course_ids": ["DC-1", "DC-2"]})
    file = write_lines(tmp_path / "drops.csv", "who;module;term", "D1;DC;1", "D1;DX;2")
    mapping = {"student_sis_id": "{who}", "course_sis_id": "{module}-{term}"}
    batch_id = refused_batch(deployment, file, maps=mapping, drop=True)
    page = browser.new_page()
    page.goto(f"{url}/#/batches/{batch_id}/repair")
    page.get_by_label("module, line 3").fill("DC")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("1 line went through.").wait_for()
    page.close()
    assert courses_of(deployment, "D1") == set()


def test_lines_that_could_not_be_sent_are_sent_once_the_page_is_opened_again(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["L1"], ["LC-1"])
    file = write_lines(tmp_path / "lost.csv", "student_id,course_id", "L1,LX")
    batch_id = refused_batch(deployment, file)
    page = browser.new_page()
    context = page.context
    page.route("**/batches?*", lambda route: route.abort())
    page.goto(f"{url}/#/batches/{batch_id}/repair")
    page.get_by_label("course_id, line 2").fill("LC-1")
    page.get_by_role("button", name="Send the corrected line").click()
    page.get_by_text("The service cannot be reached.").wait_for()
    page.close()
    page = context.new_page()
    page.goto(f"{url}/#/batches/{batch_id}/repair")
    page.get_by_text("1 line went through.").wait_for()
    assert page.evaluate("Object.values(localStorage).join('')").count("LC-1") == 0
    page.reload()
    page.get_by_text("Every refused line was corrected and sent.").wait_for()
    assert courses_of(deployment, "L1") == {"LC-1"}


def test_two_tabs_correct_the_lines_of_one_upload_together(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["T1", "T2", "T3"], ["TC-1", "TC-2"])
    lines = write_lines(tmp_path / "t.csv", "student_id,course_id", "T1,TX", "T2,TX", "T3,TX")
    batch_id = refused_batch(deployment, lines)
    tabs = [browser.new_page()]
    tabs.append(tabs[0].context.new_page())
    for tab in tabs:
        tab.goto(f"{url}/#/batches/{batch_id}/repair")
        tab.get_by_role("table", name="Refused lines").wait_for()
    first, second = tabs
    first.get_by_label("course_id, line 2").fill("TC-1")
    second.get_by_role("button", name="Send the corrected line", exact=True).wait_for()
    second.get_by_label("course_id, line 3").fill("TC-2")
    second.get_by_label("course_id, line 4").focus()
    first.get_by_role("button", name="Send the 2 corrected lines").click()
    first.get_by_text("2 lines went through.").wait_for()
    second.get_by_text("2 lines went through from another tab.").wait_for()
    assert _focused(second) == "course_id, line 4"
    assert second.get_by_role("row").count() == 2  # The head, and the line that is still wrong.
    second.get_by_label("course_id, line 4").fill("TC-1")
    second.get_by_role("button", name="Send the corrected line").click()
    second.get_by_text("1 line went through.").wait_for()
    first.get_by_text("Every refused line was corrected and sent.").wait_for()
    assert findings_of(first) == findings_of(second) == []
    assert [courses_of(deployment, student) for student in ("T1", "T2", "T3")] == [
        {"TC-1"},
        {"TC-2"},
        {"TC-1"},
    ]


def test_lines_that_another_tab_has_sent_are_not_sent_again_with_other_cells(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["U1"], ["UC-1", "UC-2"])
    batch_id = refused_batch(
        deployment, write_lines(tmp_path / "u.csv", "student_id,course_id", "U1,UX")
    )
    first = browser.new_page()
    second = first.context.new_page()
    for tab in (first, second):
        tab.goto(f"{url}/#/batches/{batch_id}/repair")
        tab.get_by_role("table", name="Refused lines").wait_for()
    # The first tab has sent its line, and does not know yet what became of it.
    first.route(f"**/batches/fix-*-{batch_id}", lambda route: route.abort())
    first.get_by_label("course_id, line 2").fill("UC-1")
    first.get_by_role("button", name="Send the corrected line").click()
    first.get_by_text("The service cannot be reached.").wait_for()
    second.get_by_role("button", name="Send the corrected line", exact=True).wait_for()
    second.get_by_label("course_id, line 2").fill("UC-2")
    second.get_by_role("button", name="Send the corrected line").click()
    second.get_by_text("1 line went through.").wait_for()
    assert courses_of(deployment, "U1") == {"UC-1"}


def test_a_page_finds_nothing_that_another_one_stored(url: str, browser: Any) -> None:
    for _ in range(2):
        page = browser.new_page()
        page.goto(url)
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        page.evaluate("localStorage.setItem('a', 'b'); sessionStorage.setItem('c', 'd')")


def test_what_axe_finds_is_returned(url: str, browser: Any) -> None:
    page = browser.new_page()
    page.goto(url)
    page.get_by_role("heading", name="Send files").wait_for()
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    (finding,) = findings_of(page)
    assert "label" in finding
    page.close()


def test_records_without_columns_are_downloaded_corrected_and_sent_again(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["J1"], ["JC-1"])
    file = tmp_path / "records.jsonl"
    file.write_text('{"student_id": "J1", "course_ids": ["JX"]}\n{"student_id": <b>J1</b>\n')
    batch_id = refused_batch(deployment, file)
    page = browser.new_page()
    page.goto(f"{url}/#/batches/{batch_id}")
    page.get_by_text("cannot be corrected on this page").wait_for()
    assert '{"student_id": <b>J1</b>' in page.inner_text("main")
    assert "The line is not a record in JSON" in page.inner_text("main")
    assert page.get_by_role("link", name="Correct the lines here").count() == 0
    assert findings_of(page) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the refused lines").click()
    assert download.value.suggested_filename == "refused.jsonl"
    corrected = tmp_path / "corrected.jsonl"
    text = Path(download.value.path()).read_text().replace("JX", "JC-1")
    corrected.write_text(text.replace("<b>J1</b>", '"J1", "course_ids": ["JC-1"]}'))
    choose_again(page, url, corrected)
    page.goto(f"{url}/#/batches/{batch_id}/repair")
    page.get_by_text("cannot be corrected on this page").wait_for()
    page.close()
    assert courses_of(deployment, "J1") == {"JC-1"}


def choose_again(page: Any, url: str, file: Path) -> None:
    """Choose a corrected file, and send it."""
    page.goto(f"{url}/#/")
    page.wait_for_selector("#file")
    choose(page, file)
    send(page)


def test_the_id_that_was_meant_is_offered_in_every_line(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    students = [f"000{number}" for number in range(8101, 8107)]
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, students, ["0008101", "ZC"])
    lines = [f"{int(student)},ZC" for student in students] + [f"{students[0]},8101.0"]
    batch_id = refused_batch(
        deployment, write_lines(tmp_path / "zeros.csv", "student_id,course_id", *lines)
    )
    page = browser.new_page()
    page.goto(f"{url}/#/batches/{batch_id}/repair")
    page.get_by_role("button", name="Use the likely id in all 7 places").click()
    assert page.get_by_label("student_id, line 7").input_value() == "0008106"
    assert page.get_by_label("course_id, line 8").input_value() == "0008101"
    page.get_by_role("button", name="Send the 7 corrected lines").click()
    page.get_by_text("7 lines went through.").wait_for()
    page.close()
    assert courses_of(deployment, students[0]) == {"ZC", "0008101"}
    assert courses_of(deployment, students[-1]) == {"ZC"}
