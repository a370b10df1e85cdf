"""Files of other systems over HTTP: in every form that they have, and with natural mistakes."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from support.front import MemoryFront
from support.packages import encoded, zipped_package
from support.workbooks import workbook

CANVAS = [
    "course_id,user_id,role,section_id,status",
    "C1,U1,student,S1,active",
    "C1,T1,teacher,S1,active",
    "C1,Ü2,student,S2,deleted",
    "C1,,student,S1,active",
]
FILES: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "canvas": ("enrollments.csv", CANVAS, {}),
    "oneroster": (
        "enrollments.csv",
        [
            "sourcedId,status,classSourcedId,schoolSourcedId,userSourcedId,role",
            "e1,active,C1,O,U1,student",
            "e2,tobedeleted,C1,O,Ü2,student",
            "e3,active,C1,O,T1,teacher",
        ],
        {},
    ),
    "clever": ("enrollments.csv", ["School_id,Student_id,Section_id", "1,Ü1,S1", "1,U2,S1"], {}),
    "sds-v1": ("StudentEnrollment.csv", ["Section SIS ID,SIS ID", "S1,Ü1", "S1,U2"], {}),
    "sds-v2": (
        "enrollments.csv",
        ["classSourcedId,userSourcedId,role", "C1,Ü1,Student", "C1,T,Teacher"],
        {},
    ),
    "flat file": (
        "flat.txt",
        ["add,student,U1,C1", "del,student,Ü2,C1,0,0", "add,teacher,T,C1"],
        {},
    ),
    "users": ("up.csv", ["username,course1,role1,course2", "ü1,C1,student,C2", "t,C1,3,"], {}),
    "edx": (
        "e.csv",
        ["user,mode,course_id", "ü1,audit,C1", "s,staff,C1"],
        {"format": "edx"},
    ),
}
ENCODINGS = [
    ("utf-8", b""),
    ("utf-8", b"\xef\xbb\xbf"),
    ("utf-16-le", b"\xff\xfe"),
    ("utf-16-be", b"\xfe\xff"),
    ("utf-16-le", b""),
    ("utf-16-be", b""),
    ("cp1252", b""),
]
CHECK, PREVIEW, SUBMIT = "/batches/check", "/batches/preview", "/batches"


def call(path: str, content: bytes | None = None, **options: Any) -> Any:
    return MemoryFront().call("POST", path, content=content, **options)


def understood(path: str, shown: dict[str, Any]) -> str:
    """Return what must be the same however a file is written."""
    names = ["readable", "problem", "kind", "system", "passed_over", "lines"]
    names += ["rows", "groups"] if path == CHECK else ["row_count", "mapping", "refused"]
    return json.dumps({name: shown[name] for name in names}, sort_keys=True)


@pytest.mark.parametrize("system", FILES)
def test_a_file_is_understood_alike_however_it_is_written(system: str) -> None:
    name, lines, params = FILES[system]
    front = MemoryFront()
    for path in (CHECK, PREVIEW):
        found = set()
        for (encoding, mark), end, delimiter in itertools.product(
            ENCODINGS, ["\n", "\r\n", "\r"], [",", ";", "\t"]
        ):
            text = [line.replace(",", delimiter) for line in lines]
            content = mark + encoded(text, encoding, end)
            options = params | ({"encoding": encoding} if encoding == "cp1252" else {})
            response = front.call("POST", path, files={"file": (name, content)}, params=options)
            assert response.status_code == 200, response.text
            found.add(understood(path, response.json()))
        assert len(found) == 1
        (one,) = found
        assert json.loads(one)["readable"]


def test_a_sheet_is_understood_like_the_file_that_excel_would_save() -> None:
    rows = [line.split(",") for line in CANVAS]
    sheet = call(CHECK, workbook({"One": rows})).json()
    file = call(CHECK, encoded(CANVAS)).json()
    for name in ("kind", "system", "passed_over", "lines", "rows", "groups"):
        assert sheet[name] == file[name]


# --- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHECK, PREVIEW, SUBMIT])
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("fromat=edx", "did you mean format?"),
        ("Drop=true", "did you mean drop?"),
        ("sections-are-one=true", "did you mean sections_are_one?"),
        ("anything=1", "they are "),
        ("format=edx&format=canvas", "Send the parameter format only once."),
    ],
)
def test_a_parameter_that_is_not_understood_is_refused(path: str, query: str, detail: str) -> None:
    response = call(f"{path}?{query}", encoded(CANVAS))
    assert (response.status_code, response.json()["code"]) == (422, "unknown_parameter")
    assert detail in response.json()["detail"]


@pytest.mark.parametrize("path", [CHECK, PREVIEW, SUBMIT])
@pytest.mark.parametrize("field", ["format", "drop", "map", "kind"])
def test_a_parameter_in_the_form_is_refused(path: str, field: str) -> None:
    files = {"file": ("e.csv", encoded(CANVAS))}
    response = call(path, files=files, data={field: "true"})
    assert (response.status_code, response.json()["code"]) == (422, "unknown_parameter")
    assert f"{path}?{field}=" in response.json()["detail"]
    assert call(path, files=files, data={"note": "true"}).is_success


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        ({"format": "canvas", "map": "student_id={user_id}"}, "format", "leave the mapping out"),
        ({"format": "blackboard"}, "format", "choose from canvas"),
        ({"kind": "students"}, "kind", "and not students; leave the kind out"),
        ({"sheet": "One"}, "sheet", "is not an Excel workbook"),
        ({"drop": "true"}, "drop", "whose lines say which of them are drops"),
        ({"moments_from_file": "true"}, "moments_from_file", "leave out the option"),
    ],
)
def test_options_that_do_not_fit_a_file_are_refused(
    params: dict[str, str], field: str, words: str
) -> None:
    response = call(SUBMIT, encoded(CANVAS), params=params)
    assert (response.status_code, response.json()["field"]) == (422, field), response.text
    assert words in response.json()["detail"]
    if params.get("format") != "blackboard":
        shown = call(CHECK, encoded(CANVAS), params=params).json()
        assert (shown["readable"], shown["field"]) == (False, field)
        shown = call(PREVIEW, encoded(CANVAS), params=params).json()
        assert (shown["readable"], shown["field"]) == (False, field)


def test_a_mapped_file_is_checked_previewed_and_submitted_alike() -> None:
    params = {"map": ["student_id=D-{user_id}", "course_id={course_id}"]}
    content = encoded(CANVAS)
    checked = call(CHECK, content, params=params).json()
    assert (checked["rows"], checked["passed_over"]) == (1, {"teacher": 1})
    assert [line["line"] for line in checked["refused"]] == [4, 5]
    assert "the course is made without section_id" in checked["refused"][0]["message"]
    shown = call(PREVIEW, content, params=params).json()
    assert [row["fields"] for row in shown["rows"]] == [{"student_id": "D-U1", "course_id": "C1"}]
    one = {**params, "sections_are_one": "true"}
    assert call(CHECK, content, params=one).json()["rows"] == 2
    accepted = call(SUBMIT, content, params=one)
    assert (accepted.status_code, accepted.json()["rows"]) == (202, 2 + 1)


def test_a_drop_of_a_mapped_file_needs_the_scope_of_drops() -> None:
    front = MemoryFront({"sis": "submit"})
    params = {"map": "student_id=D-{user_id}"}
    response = front.call("POST", SUBMIT, "sis", content=encoded(CANVAS), params=params)
    assert (response.status_code, response.json()["code"]) == (403, "scope_required"), response.text
    assert "line 4" in response.json()["detail"]


@pytest.mark.parametrize("named", [True, False])
def test_messages_about_a_package_name_it(tmp_path: Path, named: bool) -> None:
    files = {"users.csv": ["user_id,login_id,status", "U1,a,active"], "e.csv": CANVAS}
    path = zipped_package(files, tmp_path / "export.zip")
    content = path.read_bytes()
    options = {"format": "oneroster"}
    if named:
        response = call(SUBMIT, files={"file": ("export.zip", content)}, params=options)
    else:
        response = call(SUBMIT, content, params=options)
    assert (response.status_code, response.json()["field"]) == (422, "format"), response.text
    place = "export.zip" if named else "the package"
    assert f"users.csv in {place} lacks columns" in response.json()["detail"]
    assert "leave the format out" in response.json()["detail"]
