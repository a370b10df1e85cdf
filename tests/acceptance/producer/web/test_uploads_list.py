"""The list of uploads on the page: filters, older uploads, and what an upload says of itself."""

from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.accessibility import NARROW, findings_in_every_form
from support.commands import write_lines
from support.http import serving
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("browser")]


def test_uploads_are_listed_the_newest_first_and_filtered(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    submitter = "Registrar of many files"
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        for number in range(21):
            file = write_lines(tmp_path / f"{number}.csv", "sis_id,name", f"U{number},One")
            client.wait(client.submit_file(file, submitter=submitter))
        file = write_lines(tmp_path / "courses.csv", "sis_id,title", "UC,One", ",Two")
        client.wait(client.submit_file(file, submitter=submitter))
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page(width=NARROW)
        page.goto(f"{url}/#/batches")
        page.get_by_label("Sent by").fill(submitter)
        page.get_by_role("button", name="Show these").click()
        rows = page.get_by_role("table", name="Uploads").locator("tbody tr")
        rows.filter(has_text="courses.csv").first.wait_for()
        assert rows.count() == 20
        newest = rows.first.inner_text()
        assert [text in newest for text in ("courses.csv", submitter, "Finished")] == [True] * 3
        page.get_by_role("button", name="Show older uploads").click()
        rows.nth(21).wait_for()
        assert rows.count() == 22
        assert "0.csv" in rows.last.inner_text()
        assert findings_in_every_form(page) == []
        page.get_by_label("What it holds").select_option("Courses")
        page.get_by_role("button", name="Show these").click()
        wait_for(lambda: rows.count() == 1)
        page.reload()
        page.get_by_role("link", name="courses.csv").click()
        page.get_by_text(f"by {submitter}").wait_for()
        page.get_by_role("heading", name="What was refused, and why").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download for a spreadsheet").click()
        assert download.value.suggested_filename == "refused-spreadsheet.csv"
        assert ",Two" in Path(download.value.path()).read_text(encoding="utf-8-sig")
        assert findings_in_every_form(page) == []
        page.close()
