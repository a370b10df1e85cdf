"""`enroll submit --check` reads a file as a submission does, and needs no broker."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from producer.files.check import SHOWN_LINES
from producer.files.reader import open_source
from producer.publishing.chunking import split_into_chunks
from support.commands import GOOD, REFUSED, USAGE, invoke_enroll

NO_BROKER = {"ENROLL_BROKER_URL": None}


def check(*arguments: str | Path, given: str | None = None, expect: int = GOOD) -> Result:
    done = invoke_enroll("submit", "--check", *map(str, arguments), given=given, **NO_BROKER)
    assert done.exit_code == expect, done.output
    return done


def as_json(*arguments: str | Path, expect: int = GOOD) -> Any:
    return json.loads(check("--json", *arguments, expect=expect).stdout)


def test_a_check_shows_how_a_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    content = b"sep=;\r\nwho;Term;note\r\nS1;1;x\r\n;;\r\nS2;2;\r\nS3;\r\nS4;4;\xe9\r\n"
    path.write_bytes(content)
    options = ["--map", "student_sis_id={who}", "--map", "course_sis_id=C-{term}"]
    refused_file = tmp_path / "refused.csv"
    found = as_json(path, *options, "--refused", refused_file, expect=REFUSED)
    assert found["kind"] == "enrollments"
    assert found["form"] == {
        "delimiter": ";",
        "encoding": "utf-8",
        "bom": False,
        "line_end": "\r\n",
        "names_delimiter": True,
        "mapping": {"student_sis_id": "{who}", "course_sis_id": "C-{term}"},
        "drop": False,
        "format": None,
        "sections_are_one": False,
        "moments_from_file": False,
    }
    assert found["mapping"] == {"student_sis_id": "{who}", "course_sis_id": "C-{term}"}
    assert found["first_rows"] == [
        {"line": 3, "student_id": "S1", "course_id": "C-1"},
        {"line": 5, "student_id": "S2", "course_id": "C-2"},
    ]
    lines = {"total": 7, "header": 2, "read": 2, "continued": 0, "blank": 1, "refused": 2}
    lines["skipped"] = 0
    assert found["lines"] == lines
    assert [line["line"] for line in found["refused"]] == [6, 7]
    written = refused_file.read_bytes().splitlines()
    assert written[0] == b"sep=;"
    assert written[1].endswith(b";who;Term;note")
    assert written[2].endswith(b";S3;")
    assert written[3].endswith(b";S4;4;\xe9")

    shown = check(path, *options, expect=REFUSED)
    assert "line 7: cell 3 is not UTF-8" in shown.stdout
    assert "CSV with semicolons, utf-8, lines end with CRLF" in shown.stdout
    assert "Nothing was submitted" in shown.stderr


def test_a_check_refuses_what_a_submission_refuses(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    records: list[Any] = [
        {"student_id": "S1", "course_ids": ["C1", "C2"]},
        {"student_id": True, "course_ids": ["C1"]},
        {"student_id": "S1", "course_ids": ["C1", ""], "more": 1},
        {"student_id": "S" * 2_000_000, "course_ids": ["C1"]},
    ]
    path.write_text("\n".join(["", *map(json.dumps, records), "{", ""]))
    found = as_json(path, "--kind", "enrollments", expect=REFUSED)
    assert [line["line"] for line in found["refused"]] == [3, 4, 5, 6]
    assert found["rows"] == 2
    lines = {"total": 6, "header": 0, "read": 1, "continued": 0, "blank": 1, "refused": 4}
    lines["skipped"] = 0
    assert found["lines"] == lines


def test_a_check_counts_as_a_submission_does(tmp_path: Path) -> None:
    path = tmp_path / "students.csv"
    path.write_text("sis_id,name\n" + "".join(f"S{n},\n" for n in range(12_000)) + ",x\n" * 30)
    found = as_json(path, expect=REFUSED)
    source = open_source(path, None, {})
    parts = list(split_into_chunks("b", source.records(), source.columns, source.kind))
    assert found["rows"] == sum(part.tally.rows for part in parts) - 30
    assert found["lines"]["refused"] == 30
    assert len(found["refused"]) == SHOWN_LINES
    assert f"and {30 - SHOWN_LINES} more; --refused FILE" in check(path, expect=REFUSED).stdout


def test_standard_input_is_checked() -> None:
    assert "standard input" in check("-", given="sis_id,name\nS1,Ada\n").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "{path}", "{path}", "--refused", "{path}.csv"], "needs --check and a single"),
        (["{path}", "--refused", "{path}.csv"], "needs --check and a single"),
        (["{path}", "--spreadsheet", "{path}.csv"], "--spreadsheet needs --check and a single"),
        (["--check", "{path}", "--refused", "{path}.1", "--spreadsheet", "{path}.2"], "choose one"),
        (["--check", "{path}", "--spreadsheet", "{path}"], "--spreadsheet would overwrite"),
        (["--check", "{path}.none"], "cannot be read"),
        (["{path}"], "The broker's URL is missing"),
        (["--check", "{path}", "--refused", "{path}"], "would overwrite the file that is checked"),
    ],
)
def test_wrong_usage_is_explained(tmp_path: Path, arguments: list[str], message: str) -> None:
    path = tmp_path / "students.csv"
    path.write_text("sis_id,name\nS1,Ada\n")
    named = [argument.format(path=path) for argument in arguments]
    done = invoke_enroll("submit", *named, **NO_BROKER)
    assert (done.exit_code, message in done.stderr) == (USAGE, True), done.output
    assert path.read_text() == "sis_id,name\nS1,Ada\n"


@pytest.mark.parametrize(
    ("content", "is_said"),
    [("student_id,course_id\nS1,C1\n", True), ("sis_id,name\nS1,Ada\n", False)],
)
def test_only_enrollments_are_still_to_be_compared_with_the_roster(
    tmp_path: Path, content: str, is_said: bool
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(content)
    shown = check(path).stderr
    assert "Nothing was submitted." in shown
    assert ("Whether the roster has" in shown) is is_said


def test_a_column_whose_name_cannot_be_decoded_is_mapped_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"m\xe9,course_id\nS1,C1\n")
    found = as_json(path, "--map", "student_id={m\udce9}")
    assert found["mapping"] == {"course_id": "course_id", "student_id": "{m\\udce9}"}
    assert found["lines"]["read"] == 1


def test_a_check_of_drops_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "drops.csv"
    path.write_text("student_id,course_id\nS1,C1\nS1,C2\n")
    shown = check("--drop", path).stdout
    assert ["kind", "drops"] in [line.split() for line in shown.splitlines()]
    assert ["2", "S1", "C1", "drop"] in [line.split() for line in shown.splitlines()]
    path.write_text("student_id,course_id,action\nS1,C1,drop\nS1,C2,\nS1,C2,leave\n")
    found = as_json(path, expect=REFUSED)
    assert (found["content"], found["ordered"]) == ("enrollments and drops", True)
    assert [row.get("action") for row in found["first_rows"]] == ["drop", None]
    assert [line["line"] for line in found["refused"]] == [4]


def test_the_lines_that_would_be_refused_are_written_for_a_spreadsheet(tmp_path: Path) -> None:
    path, refused = tmp_path / "pairs.csv", tmp_path / "refused.csv"
    path.write_text("student_id,course_id,note\nS1,C1,x\n,C2,=1\nS3,C3,x,+1\n")
    check(path, "--spreadsheet", refused, expect=REFUSED)
    rows = refused.read_text(encoding="utf-8-sig").splitlines()
    assert [row.partition(",yes,")[2] for row in rows[1:]] == [",C2,'=1", "S3,C3,x,'+1"]
    again = as_json(refused, expect=REFUSED)
    assert [line["line"] for line in again["refused"]] == [2, 3]
