"""How files are chosen, matched, checked and sent on the page, in a real browser."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from producer.client import EnrollmentClient
from support.accessibility import NARROW, WIDE, findings_in_every_form, findings_of
from support.http import serving
from support.page import FINISHED, card_of, check, choose, choose_column, counts_of, send
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def url(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(deployment.environment, tmp_path_factory.mktemp("http") / "log") as (served, _):
        yield served


@pytest.fixture
def page(browser: Any, url: str) -> Any:
    """The page in a browser that has stored nothing."""
    opened = browser.new_page()
    opened.goto(url)
    return opened


def _workbook(path: Path) -> None:
    with ZipFile(path, "w") as archive:
        for name in ("[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml"):
            archive.writestr(name, "<a/>")


def test_what_cannot_be_sent_is_said_when_it_is_chosen(page: Any, tmp_path: Path) -> None:
    empty, blank, book = (tmp_path / name for name in ("empty.csv", "blank.csv", "book.xlsx"))
    empty.touch()
    blank.write_text("\n\n")
    _workbook(book)
    choose(page, empty, blank, book)
    assert "This file is empty. Export it again" in card_of(page, "empty.csv").inner_text()
    assert "This file is empty. Export it again" in card_of(page, "blank.csv").inner_text()
    assert "This file is an Excel workbook that is damaged" in card_of(page, book.name).inner_text()
    assert page.locator("#check").is_disabled()
    assert page.locator("#send").is_disabled()
    assert findings_of(page) == []
    for name in ("empty.csv", "blank.csv", "book.xlsx"):
        page.get_by_role("button", name=f"Remove {name}").click()
        assert page.evaluate("document.activeElement.id") == "file"
    assert page.locator("#send").count() == 0


def test_letters_of_windows_are_read_with_one_press(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "windows.csv"
    file.write_bytes("sis_id,name\nW1,Jürgen\n".encode("cp1252"))
    choose(page, file)
    card = card_of(page, "windows.csv")
    assert "Some letters cannot be read, first in line 2" in card.inner_text()
    card.get_by_role("button", name="Read it as a Windows file").click()
    card.get_by_role("cell", name="Jürgen").wait_for()
    send(page)
    assert counts_of(page) == "1 row: 1 added or changed."


def test_columns_are_suggested_confirmed_and_remembered(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["M1"], ["ALG-1", "ALG-2"])
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("Matrikelnummer;Modul;Semester\nM1;ALG;1\n")
    second.write_text("Matrikelnummer;Modul;Semester\nM1;ALG;2\n")
    choose(page, first)
    card = card_of(page, "first.csv")
    assert card.locator("tbody td").all_inner_texts()[1:] == ["M1", "ALG"]
    assert page.locator("#check").is_disabled()
    choose_column(page, "first.csv", "Course's id", "Put together from several columns …")
    box = card.get_by_label("Your columns in braces")
    assert page.evaluate("document.activeElement.id") == box.get_attribute("id")
    for template, fault in (
        ("{Module}-{Semester}", "no column “Module”. Its columns are: Matrikelnummer, Modul"),
        ("{Modul", "Write a brace before and after"),
        ("ALG-1", "Write the names of your columns in braces"),
    ):
        box.fill(template)
        box.press("Tab")
        card.get_by_text(fault).wait_for()
    assert findings_of(page) == []
    box.fill("{Modul}-{Semester}")
    box.press("Tab")
    card.get_by_role("cell", name="ALG-1").wait_for()
    card.get_by_role("button", name="These columns are right").click()
    send(page)
    assert counts_of(page) == "1 row: 1 newly enrolled."
    page.get_by_role("link", name="Send files").click()
    choose(page, second)
    card_of(page, "second.csv").get_by_role("cell", name="ALG-2").wait_for()
    assert "Chosen as for your last file" in card_of(page, "second.csv").inner_text()
    send(page)
    assert counts_of(page) == "1 row: 1 newly enrolled."


def test_a_check_names_every_mistake_and_sends_nothing(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "checked.csv"
    lines = [f"K{number},C1," for number in range(2_000)]
    lines[1_000] = lines[1_500] = ",C1,"
    file.write_text("\n".join(["student_id,course_id,note", *lines, "K,C,<i>,4"]) + "\n")
    choose(page, file)
    check(page)
    card = card_of(page, "checked.csv")
    assert "1,998 rows can be read, and 3 lines would be refused" in card.inner_text()
    mistakes = card.get_by_role("table", name="Mistakes").locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[1:] for row in mistakes] == [["2", "1,002 and 1,502"], ["1", "2,002"]]
    assert "student_id: The cell is empty. Fill it in." in mistakes[0]
    assert "The line has 4 cells, but the file has 3 columns." in mistakes[1]
    card.get_by_text("Show the lines").click()
    cells = card.get_by_role("table", name="Lines that would be refused").locator("tbody tr")
    assert cells.nth(2).inner_text().split("\t")[:5] == ["2,002", "K", "C", "<i>", "4"]
    page.get_by_role("link", name="Uploads").click()
    page.get_by_role("heading", name="Uploads").wait_for()
    assert "checked.csv" not in page.inner_text("main")
    page.get_by_role("link", name="Send files").click()
    assert "3 lines would be refused" in card_of(page, "checked.csv").inner_text()


def test_a_file_that_changed_is_not_sent(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "changing.csv"
    file.write_text("sis_id,name\nCH1,Before\n")
    choose(page, file)
    check(page)
    file.write_text("sis_id,name\nCH1,After\nCH2,New\n")
    os.utime(file, (1, 1))
    page.locator("#send").click()
    changed = "The file changed since you chose it. Choose it again."
    card_of(page, "changing.csv").get_by_text(changed).wait_for()
    assert page.url.endswith("#/") or page.url.endswith("/")
    choose(page, file)
    assert page.get_by_role("article").count() == 1
    send(page)
    assert counts_of(page) == "2 rows: 2 added or changed."


def test_rosters_are_sent_first_and_what_fails_holds_back_the_rest(
    page: Any, tmp_path: Path
) -> None:
    contents = {
        "enrollments.csv": "student_id,course_id\nO1,OC1\n",
        "courses.csv": "sis_id,title\nOC1,Ordered\n",
        "students.csv": "sis_id,name\nO1,Ordered\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    choose(page, *(tmp_path / name for name in contents))
    check(page)
    order = "students.csv (students), then courses.csv (courses), then enrollments.csv"
    assert order in page.inner_text("main")
    page.route("**/batches?*", lambda route: route.abort(), times=1)
    page.locator("#send").click()
    page.get_by_text("The service cannot be reached").wait_for()
    assert page.get_by_text("Held back").count() == 2
    assert findings_of(page) == []
    page.get_by_role("button", name="Send again").click()
    page.get_by_text(FINISHED).nth(2).wait_for()
    assert page.locator("section h2").all_inner_texts() == list(contents)[::-1]
    assert page.get_by_text("1 row: 1 newly enrolled.").count() == 1
    page.reload()
    page.get_by_text(FINISHED).nth(2).wait_for()
    assert page.locator("section h2").all_inner_texts() == list(contents)[::-1]


def test_a_file_on_its_way_is_cancelled_and_the_next_one_is_sent(page: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("sis_id,name\nX1,Cancelled\n")
    second.write_text("sis_id,title\nX2,Sent\n")
    choose(page, first, second)
    check(page)
    page.route("**/batches?*", lambda _: None, times=1)  # It gets no response.
    page.locator("#send").click()
    part = page.get_by_role("region", name="first.csv")
    part.get_by_role("button", name="Cancel").click()
    part.get_by_text("Cancelled. Nothing of this file was sent.").wait_for()
    page.get_by_role("region", name="second.csv").get_by_text(FINISHED).wait_for()
    assert findings_of(page) == []


def test_an_upload_goes_on_under_its_address_after_the_tab_was_closed(
    page: Any, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "closed.csv"
    file.write_text("sis_id,name\nT1,Tab\n")
    choose(page, file)
    check(page)
    held: list[Any] = []
    page.route("**/batches?*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks it
    page.locator("#send").click()
    page.wait_for_url("**/#/batches/*")
    address = page.url
    page.get_by_text("Sending …").wait_for()
    page.goto("about:blank")  # As if the tab was closed: the page ends in the middle of the upload.
    for route in held:  # What was held back must not leave when the tab is closed.
        with suppress(Exception):  # The page may have given it up.
            route.abort()
    page.close(run_before_unload=False)
    again = page.context.new_page()
    again.goto(address)
    again.get_by_text("Nothing of this upload has arrived yet").wait_for()
    assert findings_of(again) == []
    again.goto(f"{url}/#/")
    again.get_by_role("link", name="closed.csv").wait_for()
    choose(again, file)
    send(again)
    assert again.url == address
    assert counts_of(again) == "1 row: 1 added or changed."
    again.goto(f"{url}/#/")
    again.reload()
    again.wait_for_selector("#file")
    assert again.get_by_text("Not finished when you left").count() == 0


def test_every_line_of_a_file_drops_its_student_if_she_says_so(
    page: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["D1"], ["DC1"])
        client.enroll({"student_id": "D1", "course_ids": ["DC1"]})
    file = tmp_path / "leavers.csv"
    file.write_text("student_id,course_id\nD1,DC1\n")
    choose(page, file)
    card = card_of(page, "leavers.csv")
    card.get_by_text("Change what it holds").click()
    card.get_by_label("What each line asks for").select_option(label="Drop the student")
    card.get_by_role("cell", name="drop").wait_for()
    send(page)
    assert counts_of(page) == "1 row: 1 dropped."


def test_an_example_file_of_each_kind_can_be_sent_as_it_is(page: Any, tmp_path: Path) -> None:
    page.get_by_text("Which columns are needed?").click()
    for kind in ("students", "courses", "enrollments"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {kind}.csv").click()
        download.value.save_as(tmp_path / f"{kind}.csv")
    choose(page, *(tmp_path / f"{kind}.csv" for kind in ("students", "courses", "enrollments")))
    send(page)
    assert "refused" not in page.inner_text("main")


def test_a_token_is_entered_once_and_errors_speak_of_it_in_plain_words(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    tokens, file = tmp_path / "tokens", tmp_path / "tokens.csv"
    digest = hashlib.sha256(b"secret").hexdigest()
    tokens.write_text(f"registrar submit,lookup {digest}\n")
    tokens.chmod(0o600)
    file.write_text("sis_id,name\nTK1,Token\n")
    arguments = ("--tokens", str(tokens))
    with serving(deployment.environment, tmp_path / "log", *arguments) as (url, _):
        page = browser.new_page()
        page.goto(url)
        choose(page, file)
        card = card_of(page, "tokens.csv")
        assert "asks for an access token" in card.inner_text()
        page.get_by_label("Access token").fill("secret")
        page.get_by_label("Access token").press("Tab")
        card.get_by_role("cell", name="TK1").wait_for()
        send(page)
        assert counts_of(page) == "1 row: 1 added or changed."
        page.reload()
        page.get_by_text(FINISHED).wait_for()
        page.get_by_label("Access token").fill("wrong")
        page.get_by_role("link", name="Uploads").click()
        page.get_by_role("alert").get_by_text("asks for an access token").wait_for()
        assert findings_of(page) == []
        page.close()


_STATES = {
    "batches": "Sent by",
    "batches?sender=nowhere": "Sent by",
    "batches/nowhere": "No upload is shown under this address",
    "batches/nowhere/repair": "No upload with this address is known",
    "students?find=nowhere": "The roster has no student with the id, name",
    "students/nowhere": "The roster has no student with the id “nowhere”",
    "students?find=A1": "One student",
    "courses?find=nowhere": "The roster has no course",
    "courses/nowhere": "The roster has no course with this id",
}
"""Addresses of states that a reader may come to, each with a text that it shows."""


def test_axe_has_no_finding_and_nothing_is_cut_off(browser: Any, url: str, tmp_path: Path) -> None:
    page = browser.new_page(width=NARROW)
    page.goto(url)
    odd, letters = tmp_path / "odd.csv", tmp_path / "letters.csv"
    odd.write_text("Matric No,Module,Term\nA1,ALG,1\n,ALG,1\n")
    letters.write_bytes("sis_id,name\nA1,Jürgen\n".encode("cp1252"))

    def look() -> None:
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        assert findings_in_every_form(page, ("light", "dark")) == []
        tops = "new Set([...document.querySelectorAll('nav a')].map((link) => link.offsetTop)).size"
        for width in (WIDE, NARROW):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(tops) == 1  # The links stand on one line.

    page.wait_for_selector("#file")
    look()
    choose(page, odd, letters)
    look()
    page.get_by_role("button", name="These columns are right").click()
    check(page)
    look()
    send(page)
    look()
    page.goto(f"{url}/#/nowhere")
    page.get_by_text("There is no such page").wait_for()
    look()
    for address, shown in _STATES.items():
        page.goto(f"{url}/#/{address}")
        page.get_by_text(shown).first.wait_for()
        look()


def test_all_of_it_works_by_keyboard(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text("Student No,name\nKB1,Key Board\n")
    page.wait_for_selector("#file")

    def press_until(text: str) -> None:
        """Press Tab until the element with this text has the focus."""
        current = "(document.activeElement.textContent + document.activeElement.id).trim()"
        for _ in range(60):
            page.keyboard.press("Tab")
            if text in page.evaluate(current):
                return
        pytest.fail(f"Tab does not lead to {text!r}")

    press_until("Skip to the content")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "H1"
    press_until("file")
    choose(page, file)
    press_until("These columns are right")
    page.keyboard.press("Enter")
    press_until("Check the file")
    page.keyboard.press("Enter")
    wait_for(lambda: page.evaluate("document.activeElement.id") == "send")
    page.keyboard.press("Enter")
    page.get_by_text(FINISHED).wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H1"
