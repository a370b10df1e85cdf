"""No password of an export is published, neither with a record nor with a refused line."""

from pathlib import Path

import pytest

from producer.contract.chunks import RefusedLine
from producer.files.reader import open_source
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind

MARKER = "hunter2"
FILES = {
    "Clever": "School_id,Student_id,Last_name,First_name,Student_password\n1,7,L,A,{}\n1,,L,A,{}\n",
    "School Data Sync": (
        "SIS ID,School SIS ID,Username,Password\n7,1,ada,{}\n,1,ada,{}\n7,{}\n7,1,a,{},x\n"
    ),
    "Canvas": (
        "user_id,login_id,password,status,declared_user_type\n"
        "7,ada,{},active,student\n,a,{},active,student\n"
    ),
    "Moodle": "username,password,course1\nada,{},C\n,{},C\nada,{},C,D\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_passwords_do_not_leave_the_computer(tmp_path: Path, content: str) -> None:
    path = tmp_path / "student.csv"
    path.write_text(content.replace("{}", MARKER))
    entries = list(open_source(path, None, {}).records())
    refused = [entry for entry in entries if isinstance(entry, RefusedLine)]
    assert refused
    assert len(entries) > len(refused)
    shown = [str(e) if isinstance(e, RefusedLine) else str((e.record, e.cells)) for e in entries]
    assert not [text for text in shown if MARKER in text]


@pytest.mark.parametrize(
    ("header", "templates"),
    [
        ("sis_id,name,Login Password", {}),
        (
            "Student_id,Last_name,student_password",
            {"sis_id": "{Student_id}", "name": "{Last_name}"},
        ),
    ],
)
def test_passwords_in_our_own_and_mapped_files_do_not_leave_it_either(
    tmp_path: Path, header: str, templates: dict[str, str]
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"{header}\n7,Ada,{MARKER}\n,Ben,{MARKER}\n8,{MARKER}\n")
    record, *refused = open_source(path, None, templates).records()
    assert isinstance(record, SourceRecord)
    assert record.cells == [["7", "Ada", ""]]
    assert [entry.cells for entry in refused if isinstance(entry, RefusedLine)] == [
        ("", "Ben", ""),
        None,
    ]


def test_a_column_of_passwords_that_is_read_stays(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"sis_id,password\n7,{MARKER}\n")
    (record,) = open_source(path, Kind.STUDENTS, {"name": "{password}"}).records()
    assert isinstance(record, SourceRecord)
    assert record.record["name"] == MARKER
