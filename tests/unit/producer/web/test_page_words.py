"""What the page says about files and lines that cannot be used, in a registrar's words."""

import gzip
import io
import re
from typing import Any
from zipfile import ZipFile

import pytest

from producer.files.describing import Choices
from producer.files.preview import preview_file
from producer.schemas import Kind
from producer.web.access import lacking
from producer.web.tokens import Scope
from support.page_modules import run_module

_PROGRAMMERS = re.compile(
    r"submit|batch id|--|\bmap\b|mapping|parameter|option|JSON Lines|JSON object|SIS id|our key"
    r"|sis_id"
)
"""Words of the command line, the HTTP front and Python, which the page does not show."""
_CHOSEN = (
    "{seen: value, kind: value.kind ?? '', isEmpty: page.isEmpty ?? false, choices: {maps: {}},"
    " doubles: () => [], ownName: () => null}"
)

_CANVAS = b"course_id,user_id,role,section_id,status\nC1,U1,student,S1,active\n"
_PAIR = {"student_id": "{user_id}"}


def _archive(*names: str) -> bytes:
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, "student_id,course_id\nS1,C1\n")
    return packed.getvalue()


def _problem(content: bytes, choices: Choices = Choices()) -> str:  # noqa: B008 - it is frozen
    preview = preview_file("The file", content, choices, goes_on=False)
    assert not preview.readable
    value = preview.model_dump(mode="json")
    text: str = run_module("advice.js", f"page.problemOf({_CHOSEN})", value)
    return text


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"", "Export it again"),
        (b",,\n", "Export it again"),
        (
            gzip.compress(b"student_id,course_id\nS1,C1\n" * 99, mtime=0)[:40],
            "choose the new one here",
        ),
        (_archive("a.csv")[:-30], "choose the new one here"),
        (_archive("a.csv", "b.csv"), "check it instead"),
        (_archive("[Content_Types].xml", "xl/workbook.xml"), "CSV UTF-8"),
        (_archive("mimetype", "META-INF/manifest.xml"), "CSV"),
        (b"%PDF-1.4\n", "export the data as CSV"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2, "export it as CSV"),
        (b"<html><head>\n", "Export the data as CSV"),
        (b'[{"student_id": "S1"},\n{"student_id": "S2"}]', "Export it as CSV"),
        (b"0004200,C1\n0004201,C1\n", "add a line with the names of the columns above it"),
        (b"Report of today\nstudent_id,course_id\nS1,C1\n", "remove the lines above it"),
        (b"invoice,amount\n1,2\n", "Its columns are: invoice and amount. Choose below"),
        (b"sis_id,name,name\nS1,A,A\n", "Rename or remove"),
    ],
)
def test_a_file_that_cannot_be_used_is_described_without_words_of_programmers(
    content: bytes, remedy: str
) -> None:
    problem = _problem(content)
    assert remedy in problem
    quoted = re.compile(r"'[^']*'")  # A line of hers may have the names of our columns.
    assert _PROGRAMMERS.findall(quoted.sub("", problem)) == []


def test_a_choice_is_not_advised_first_where_it_does_not_help() -> None:
    assert re.search(
        r"holds\. It looks like data; .*If its first line", _problem(b"4711,C1\n4712,C1\n")
    )
    assert _problem(b"a,b\nc,d\n").endswith("or remove it if it is the wrong file.")


def _doubts(content: bytes, choices: Choices, first_line: str | None = None) -> str:
    preview = preview_file("The file", content, choices, goes_on=False).model_dump(mode="json")
    chosen = {
        "seen": preview, "firstLine": first_line, "choices": {"maps": dict(choices.templates)}
    }  # fmt: skip
    return " ".join(run_module("advice.js", "page.doubtsAbout(value)", chosen))


def test_people_who_are_not_students_are_doubted_before_and_after_the_choice_of_columns() -> None:
    students = Choices(Kind.STUDENTS)
    for name in ("teacher_id", "Teacher Sourced ID", "Instructor No.", "staff-number", "Dozent-Nr"):
        content = f"{name},name,email\nT1,Ada,a@b.test\n".encode()
        assert f"“{name}” seems to hold people who are not students" in _doubts(content, students)
        chosen = students._replace(templates={"sis_id": f"{{{name}}}"})
        assert f"“{name}” seems to hold people" in _doubts(content, chosen)
    beside = b"student_id,course_id,teacher_id\nS1,C1,T1\n"
    assert _doubts(beside, Choices()) == ""
    assert _doubts(b"user_id,teacher_id\nS1,T1\n", Choices(Kind.ENROLLMENTS)) == ""


def test_a_first_line_of_data_stays_doubted_once_its_cells_are_chosen_as_columns() -> None:
    content = b"0004711,C1\n0004712,C1\n"
    kind = Choices(Kind.ENROLLMENTS)
    assert re.search(r"It looks like data; .*If its first line", _problem(content, kind))
    maps = kind._replace(templates={"student_id": "{0004711}", "course_id": "{C1}"})
    doubt = _doubts(content, maps, "0004711,C1")
    assert "“0004711,C1”" in doubt
    assert "is not sent" in doubt


def test_a_cell_with_several_ids_says_to_write_a_line_for_each() -> None:
    for ids, is_several in {"A-1;B-2": True, "A1, B2": True, "A|B": True, "A-1": False}.items():
        for what in ("student", "course"):
            line = {"message": f"no {what} has the SIS id '{ids}'", "field": f"{what}_id"}
            reason = run_module("reasons.js", "page.reasonOf(value)", line)
            assert ("write a line for each" in reason) == is_several


def test_all_lines_as_drops_is_taken_back_in_the_words_of_the_page() -> None:
    action = b"student_id,course_id,action\nS1,C1,enroll\n"
    assert "choose below that each line enrolls" in _problem(action, Choices(drop=True))
    assert "choose below that each line enrolls" in _problem(
        b"sis_id,name\nS1,A\n", Choices(Kind.STUDENTS, drop=True)
    )


@pytest.mark.parametrize(
    ("content", "choices", "words"),
    [
        (_CANVAS, Choices(Kind.STUDENTS), "and not students; choose below what it holds"),
        (_CANVAS, Choices(None, _PAIR, None, True), "choose below that each line enrolls"),
        (
            _CANVAS.replace(b"role", b"role_id"),
            Choices(None, _PAIR),
            "does not show who is a student. Export it with a column role, or send the whole",
        ),
        (
            b"username,course1,role1\na,b,teacher\n",
            Choices(None, {"student_id": "{username}"}),
            "Take back the columns that you chose below, or choose “None: every line counts”",
        ),
        (
            b"Section SIS ID,SIS ID\nS,U\n",
            Choices(None, {"student_id": "{SIS ID}", "course_id": "{Section SIS ID}"}),
            "or teacherroster.csv), or choose “None: every line counts” below as the system.",
        ),
        (
            b"school_id,section_id,student_id\n1,S,U\n",
            Choices(None, {"student_id": "{student_id}", "course_id": "{school_id}"}, None, True),
            "Choose section_id below as the course, or choose below that each course has one",
        ),
    ],
)
def test_columns_of_another_system_are_explained(
    content: bytes, choices: Choices, words: str
) -> None:
    problem = _problem(content, choices)
    assert words in problem
    assert not _PROGRAMMERS.search(problem.replace("SIS ID", ""))
    assert "plain" not in problem


def _reasons(content: bytes) -> list[str]:
    preview = preview_file("The file", content, Choices(), goes_on=False)
    lines: Any = [line.model_dump(mode="json") for line in preview.refused]
    reasons: list[str] = run_module("reasons.js", "value.map((line) => page.reasonOf(line))", lines)
    return reasons


def test_the_last_line_of_half_a_download_is_said_to_be_cut_off() -> None:
    head = b"student_id,course_id,note\nS1,C1,x\n"
    for cut in (b"S2", b"S2,C1", b'S2,C1,"x', b"S2,C1,\xc3"):
        (reason,) = _reasons(head + cut)
        assert reason.startswith("The file ends in the middle of this line")
        assert "get the file again" in reason
    (whole,) = _reasons(head + b"S2,C1\n")
    assert whole == "The line has only 2 of 3 cells. Fill in what is missing."
    (blank,) = _reasons(head + b"S2,C1,x,,\n")
    assert blank.endswith(
        "The cells after the last column are empty: delete them, and save the file again."
    )


def test_a_line_that_is_no_record_is_explained_without_the_words_of_a_parser() -> None:
    good = b'{"student_id": "S1", "course_ids": ["C1"]}\n'
    for bad in (b'{"student_id": \n', b"{,}\n", b"[" * 900 + b"\n", b"\x00\n", b"hello\n"):
        (reason,) = _reasons(good + bad)
        assert reason.startswith("The line is not a record in JSON")
        assert re.search(r"EOF|pars|expected|recursion|column", reason) is None
        assert "Export the file again" in reason


def test_letters_that_cannot_be_read_lead_to_the_choice_of_an_encoding() -> None:
    (reason,) = _reasons("student_id,course_id,name\nS1,C1,Jürgen\n".encode("cp1252"))
    assert "another encoding" in reason


def test_a_refused_call_names_the_scope_that_the_token_lacks() -> None:
    for scope in Scope:
        detail = lacking(scope).detail
        problem = {"code": "scope_required", "status": 403, "detail": detail}
        assert f"“{scope}”" in run_module("words.js", "page.sentenceFor(value)", problem)


def test_reasons_of_lines_are_given_without_words_of_programmers() -> None:
    content = (
        b"student_id,course_id\nS1,C1\nstudent_id,course_id\n,C1\nS1\nS1,C1,x\n"
        b'S1,"a "b" c"\ncourse_id,note,student_id\nC1,x,S1\n'
    )
    reasons = _reasons(content)
    assert len(reasons) == 7
    assert [reason for reason in reasons if _PROGRAMMERS.search(reason)] == []
    assert reasons[-1].startswith("The line belongs to another table, which begins in line 8.")
