"""The page for people, in a real browser."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from support.commands import write_lines
from support.http import serving
from support.rosters import enter_roster
from support.workers import Deployment

pytestmark = pytest.mark.one_database


@pytest.mark.xdist_group("browser")
def test_a_file_with_mistakes_is_submitted_and_its_refusals_are_read(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        students = [{"sis_id": "P1", "name": "Page One"}]
        enter_roster(client, students, [{"sis_id": "PC1", "title": "Reading"}])
    file = tmp_path / "mistakes.csv"
    file.write_text(
        'who,course_sis_id,note\nP1,PC1,"fine, really"\nP1,NOPE,<b>bold</b>\nghost,PC1,\n'
    )
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        page.set_input_files("#file", str(file))
        page.wait_for_selector("#preview table")
        assert "fine, really" in page.inner_text("#preview")
        assert "<b>bold</b>" in page.inner_text("#preview")
        page.select_option("#preview select", "who")
        page.click("#submit")
        page.get_by_text(": done").wait_for()
        assert page.inner_text("#books").split() == [
            *("Rows", "received", "3", "enrolled", "1"),
            *("rejected", "2", "not", "yet", "applied", "0"),
        ]
        refused = page.inner_text("#refusals")
        assert "unknown_course" in refused
        assert "no student has the SIS id 'ghost'" in refused
        with page.expect_download() as download:
            page.click("#download")
        text = Path(download.value.path()).read_text()
        assert text.splitlines()[1].endswith(",P1,NOPE,<b>bold</b>")
        page.fill("#student", "P1")
        page.press("#student", "Enter")
        page.wait_for_selector("#found li")
        assert "PC1 · Reading" in page.inner_text("#found")
        page.fill("#student", "ghost")
        page.press("#student", "Enter")
        page.get_by_text("The roster has no student with this id").wait_for()
        assert "no student has the SIS id 'ghost'" in page.inner_text("#found")
        page.fill("#student", "nobody at all")
        page.press("#student", "Enter")
        page.wait_for_selector("#error:not([hidden])")
        assert page.inner_text("#error").startswith("No student has this id. Check the id")
        assert [line for line in said if "404" not in line] == []
        page.close()


@pytest.mark.xdist_group("browser")
def test_what_happened_to_a_student_is_shown_the_latest_first(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    begin = datetime(2026, 9, 1, 8, tzinfo=UTC)
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["past"], [{"sis_id": "past-C", "title": "History"}])
        for hour in range(22):
            courses = "course_ids" if hour % 2 == 0 else "drop_course_ids"
            change = {"student_id": "past", courses: ["past-C"], "reason": f"<i>reason {hour}</i>"}
            client.enroll({**change, "as_of": begin + timedelta(hours=hour)})
        client.enroll({"student_id": "past", "course_ids": ["past-C"], "as_of": begin})
        lines = write_lines(tmp_path / "late.csv", "student_id,course_id", "past,NOPE")
        batch = client.submit_file(lines)
        client.wait(batch)
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        page.fill("#student", "past")
        page.press("#student", "Enter")
        page.wait_for_selector("#found table")
        rows = page.locator("#found tbody tr")
        assert rows.count() == 20
        newest = rows.nth(0).inner_text()
        assert f"{batch.batch_id}, line 2" in newest
        assert "no course has the SIS id 'NOPE'" in newest
        assert "past-C · History" in rows.nth(1).inner_text()
        assert "<i>reason 21</i>" in rows.nth(1).inner_text()
        page.get_by_role("button", name="Show older entries").click()
        rows.nth(20).wait_for()
        words = [row.split("\t")[1] for row in rows.all_inner_texts()]
        assert words[:2] == ["rejected", "dropped"]
        assert words.count("superseded") == 1
        assert len(words) == 24
        assert not page.get_by_role("button", name="Show older entries").is_visible()
        assert said == []
        page.close()


@pytest.mark.xdist_group("browser")
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
        page.set_input_files("#file", str(both))
        page.get_by_text("The file has student_id and student_key; use").wait_for()
        page.select_option("#preview select", "student_key")
        page.click("#submit")
        page.get_by_text(": done").wait_for()
        page.fill("#student", f"key:{student.id}")
        page.press("#student", "Enter")
        page.wait_for_selector("#found li")
        assert f"P2 (key {student.id})" in page.inner_text("#found")
        assert "PC2 · Writing" in page.inner_text("#found")
        page.set_input_files("#file", str(records))
        page.click("#submit")
        page.get_by_text("In JSON, an integer is our key").wait_for()
        page.close()
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        other = client.student("P3")
        assert other is not None
        assert other.courses == ()


@pytest.mark.xdist_group("browser")
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
        page.set_input_files("#file", str(file))
        page.get_by_text("The file holds enrollments").wait_for()
        preview = page.inner_text("#preview")
        assert "used as student_id" in preview
        assert "used as course_id" in preview
        assert "is missing" not in preview
        assert "P4" in preview
        page.click("#submit")
        page.get_by_text(": done").wait_for()
        books = page.inner_text("#books").split()
        assert books[books.index("received") + 1] == "1"
        assert books[books.index("rejected") + 1] == "0"
        page.close()


@pytest.mark.xdist_group("browser")
def test_the_same_file_is_tried_again_after_the_roster_was_corrected(
    browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "early.csv"
    file.write_text("student_id,course_id\nP5,PC5\n")
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        page = browser.new_page()
        page.goto(url)
        page.set_input_files("#file", str(file))
        page.click("#submit")
        page.get_by_text("no student has the SIS id 'P5'").wait_for()
        page.wait_for_selector("#submit:enabled")
        with EnrollmentClient(deployment.broker_url, timeout=20) as client:
            enter_roster(client, ["P5"], [{"sis_id": "PC5", "title": "Drawing"}])
        page.click("#submit")
        page.wait_for_selector("#refused", state="hidden")
        page.get_by_text(": done").wait_for()
        assert page.inner_text("#books").split()[:5] == ["Rows", "received", "1", "enrolled", "1"]
        page.close()


@pytest.mark.xdist_group("browser")
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
        page.set_input_files("#file", str(file))
        page.wait_for_selector("#preview table")
        assert "used as action" in page.inner_text("#preview")
        page.click("#submit")
        page.get_by_text(": done").wait_for()
        counts = " ".join(page.inner_text("#books").split())
        assert counts.startswith("Rows received 3 enrolled 1 dropped 1")
        page.fill("#student", "P9")
        page.press("#student", "Enter")
        page.wait_for_selector("#found li")
        found = page.inner_text("#found")
        rows = page.locator("#found tbody tr").all_inner_texts()
        (dropped,) = (row.split("\t") for row in rows if "PC9" in row and "dropped" in row)
        assert (dropped[1], dropped[2], dropped[4].strip()) == ("dropped", "PC9", "moved <b>")
        assert "PC8" in found
        page.close()
