"""Packages and workbooks over HTTP: checked, previewed, and known again when lines are refused."""

import secrets
from pathlib import Path
from typing import Any

import pytest

from producer.files import workbooks
from producer.files.preview import MAX_ARCHIVE, MAX_PREVIEW
from support.front import MemoryFront
from support.packages import zipped_package
from support.workbooks import workbook

CANVAS = {
    "users.csv": [
        "user_id,login_id,full_name,status",
        "u1,ada,Ada Lovelace,active",
        "u2,grace,Grace Hopper,active",
        ",alan,Alan Turing,active",
    ],
    "courses.csv": ["course_id,short_name,long_name,status", "c1,ALG,Algebra,active"],
    "enrollments.csv": [
        "course_id,user_id,role,status,section_id",
        "c1,u1,student,active,",
        "c9,u1,student,active,",
        *["c1,u2,teacher,active,"] * 12,
    ],
    "terms.csv": ["term_id,name,status", "t1,Autumn,active"],
}


def sent(front: MemoryFront, path: str, file: Path, **params: Any) -> Any:
    """Send a file with its name in a form; return the body of the response."""
    files = {"file": (file.name, file.read_bytes())}
    response = front.call("POST", path, files=files, params=params)
    assert response.is_success, response.text
    return response.json()


def test_a_check_reads_every_file_of_a_package(tmp_path: Path) -> None:
    file = zipped_package(CANVAS, tmp_path / "export.zip")
    front = MemoryFront()
    shown = sent(front, "/batches/check", file)
    assert (shown["readable"], shown["system"]) == (True, "Canvas SIS import")
    assert [(each["file"], each["batch"], each["rows"]) for each in shown["files"]] == [
        ("users.csv", "students", 1),
        ("courses.csv", "courses", 1),
        ("enrollments.csv", "enrollments", 2),
    ]
    users, _, enrollments = shown["files"]
    assert [line["line"] for line in users["refused"]] == [4]
    assert enrollments["passed_over"] == {"teacher": 12}
    assert enrollments["first_rows"][0]["fields"] == {"student_id": "u1", "course_id": "c1"}
    assert shown["rows"] == 4
    assert shown["lines"]["refused"] == 1
    assert shown["lines"]["total"] == 4 + 2 + 15
    assert not front.client.recent_batches()


def test_a_package_without_files_of_ours_cannot_be_read(tmp_path: Path) -> None:
    terms = {"terms.csv": CANVAS["terms.csv"], "b.csv": CANVAS["terms.csv"]}
    file = zipped_package(terms, tmp_path / "export.zip")
    shown = sent(MemoryFront(), "/batches/check", file)
    assert not shown["readable"]
    assert "has no file that can be read" in shown["problem"]


def test_a_preview_names_a_package_and_sends_to_the_check(tmp_path: Path) -> None:
    file = zipped_package(CANVAS, tmp_path / "export.zip")
    shown = sent(MemoryFront(), "/batches/preview", file)
    assert (shown["readable"], shown["container"]) == (False, "package")
    assert "check it" in shown["problem"]


def test_a_workbook_above_the_bound_of_other_files_is_previewed_as_a_whole(tmp_path: Path) -> None:
    sheets = {"One": [["student_id", "course_id"], ["S1", "C1"]], "Two": [["a"]]}
    padding = secrets.token_hex(2 * MAX_PREVIEW)
    file = tmp_path / "book.xlsx"
    file.write_bytes(workbook(sheets, more=[("docProps/padding", padding)]))
    assert MAX_PREVIEW < file.stat().st_size < MAX_ARCHIVE
    shown = sent(MemoryFront(), "/batches/preview", file)
    assert (shown["sheets"], shown["inner"]) == (["One", "Two"], "One")
    assert shown["row_count"] == 1


@pytest.mark.parametrize(
    ("header", "line", "name", "options"),
    [
        ("course_id,user_id,role,status", "c9,u1,student,active", "export.csv", {}),
        ("Section SIS ID,SIS ID", "c9,u1", "StudentEnrollment.csv", {}),
        ("student_key,course_id,status", "u1,c9,active", "a.csv", {"format": "edx"}),
    ],
    ids=["known by its header", "known by its name", "known by the option"],
)
def test_refused_lines_say_how_their_file_is_read_again(
    tmp_path: Path, header: str, line: str, name: str, options: dict[str, str]
) -> None:
    front = MemoryFront()
    file = tmp_path / name
    file.write_text(f"{header}\n{line}\n")
    batch = sent(front, "/batches", file, **options)["batch_id"]
    read = front.call("GET", f"/batches/{batch}/errors/lines").json()
    refused = {each["field"] for each in read["lines"]}
    assert {read["sources"][field][0] for field in refused} <= set(read["columns"])
    again = tmp_path / f"Corrected lines of {name}"
    again.write_text("".join(f"{','.join(row)}\n" for row in (read["columns"], line.split(","))))
    checked = sent(front, "/batches/check", again, format=read["format"], kind="enrollments")
    assert checked["readable"], checked["problem"]
    assert checked["rows"] == 1


def test_a_workbook_says_how_to_save_it_where_none_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "is_installed", lambda: False)
    file = tmp_path / "book.xlsx"
    file.write_bytes(workbook({"One": [["student_id", "course_id"], ["S1", "C1"]]}))
    shown = sent(MemoryFront(), "/batches/preview", file)
    assert "is an Excel workbook; save it as CSV (in Excel: CSV UTF-8)" in shown["problem"]
