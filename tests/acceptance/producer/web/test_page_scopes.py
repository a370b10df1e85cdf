"""What the page shows a caller whose token may not do everything."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.accessibility import findings_of
from support.browser import PATIENCE
from support.commands import write_lines
from support.http import serving
from support.page import card_of, choose, counts_of, send
from support.rosters import enter_roster
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]

Open = Callable[[str, str], Any]
_TOKENS = {"clerk": "submit", "reader": "lookup", "adviser": "submit,lookup"}


@pytest.fixture
def opened(browser: Any, deployment: Deployment, tmp_path: Path) -> Iterator[Open]:
    """Open an address of the page with a token, in a browser of its own."""
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["0070", "0071"], [{"sis_id": "SC1", "title": "Scopes"}])
        client.enroll({"student_id": "0070", "course_ids": ["SC1"]})
    tokens = tmp_path / "tokens"
    tokens.write_text(
        "".join(
            f"{name} {scopes} {hashlib.sha256(name.encode()).hexdigest()}\n"
            for name, scopes in _TOKENS.items()
        )
    )
    tokens.chmod(0o600)
    contexts: list[Any] = []
    with serving(deployment.environment, tmp_path / "log", "--tokens", str(tokens)) as (url, _):

        def open_page(name: str, address: str) -> Any:
            context = browser.new_context(viewport={"width": 375, "height": 800})
            contexts.append(context)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.goto(url)
            page.get_by_label("Access token").fill(name)
            page.get_by_label("Access token").press("Tab")
            page.goto(f"{url}/#/{address}")
            return page

        yield open_page
        for context in contexts:
            context.close()


def _told(page: Any, sentence: str) -> None:
    """Wait for an alert with this sentence; axe-core finds nothing in this state."""
    page.get_by_role("alert").get_by_text(re.compile(sentence)).first.wait_for()
    assert findings_of(page) == []


def test_a_caller_without_lookup_sees_only_what_it_sent(opened: Open, tmp_path: Path) -> None:
    page = opened("clerk", "students/0070")
    no_lookup = "not allow looking up students and courses.*scope “lookup”"
    _told(page, no_lookup)
    assert "0070" in page.inner_text("h1")
    for kind in ("Students", "Courses"):
        page.get_by_role("link", name=kind).click()
        page.get_by_role("heading", name=kind).wait_for()
        page.locator("#find").fill("70")
        page.locator("#find").press("Enter")
        _told(page, no_lookup)
    page.get_by_role("link", name="Send files").click()
    page.wait_for_selector("#file")
    choose(page, write_lines(tmp_path / "clerk.csv", "student_id,course_id", "0071,SC1", "71,SC1"))
    send(page)
    assert counts_of(page) == "2 rows: 1 newly enrolled and 1 refused."
    page.get_by_text("'71' → '0071'").wait_for()
    own = page.url.partition("#")[2]
    page.get_by_role("link", name="Uploads").click()
    page.get_by_role("link", name="clerk.csv").wait_for()
    other = opened("reader", own[1:])
    other.get_by_text("1 newly enrolled and 1 refused").wait_for()
    page.goto(f"{page.url.partition('#')[0]}#/batches/of-somebody-else")
    page.get_by_text("your access token shows only what was sent with it").wait_for()
    assert findings_of(page) == []


def test_a_caller_without_submit_or_drop_learns_which_scope_is_missing(
    opened: Open, tmp_path: Path
) -> None:
    drops = write_lines(tmp_path / "d.csv", "student_id,course_id,action", "0070,SC1,drop")
    page = opened("reader", "students/0070")
    page.get_by_label("Enroll in the course").fill("SC1")
    page.get_by_label("Enroll in the course").press("Enter")
    page.get_by_role("button", name="Enroll", exact=True).click()
    _told(page, "not allow sending anything.*scope “submit”")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("link", name="Send files").click()
    page.wait_for_selector("#file")
    choose(page, drops)
    assert "scope “submit”" in card_of(page, "d.csv").inner_text()
    assert page.get_by_role("button", name="Check the file").is_disabled()
    page = opened("adviser", "students?find=70")
    page.get_by_text("The roster has no student with the id “70”. Did you mean:").wait_for()
    assert findings_of(page) == []
    page.get_by_role("link", name="0070").first.click()
    page.get_by_role("button", name="Drop from Scopes").click()
    page.get_by_role("button", name="Drop", exact=True).click()
    _told(page, "not allow dropping students.*scope “drop”")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("link", name="Send files").click()
    page.wait_for_selector("#file")
    choose(page, drops)
    page.get_by_role("button", name="Check the file").click()
    _told(page, "not allow dropping students.*scope “drop”")
    assert page.get_by_role("button", name="Send the file").is_disabled()
