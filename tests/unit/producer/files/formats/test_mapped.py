"""Columns of another system may be mapped, but its roles and statuses still count."""

from pathlib import Path

import pytest

from producer.errors import UnreadableFile
from producer.files.describing import Choices
from producer.files.formats.packages import open_package
from producer.files.formats.registry import choice_of
from producer.files.reader import open_source_chosen
from producer.schemas import Kind
from support.packages import ReadFile, encoded, read_source, zipped_package
from support.workbooks import workbook

CANVAS = [
    "course_id,user_id,role,section_id,status,email",
    "C1,U1,student,S1,active,",
    "C1,T1,teacher,S1,active,",
    "C1,X1,TaEnrollment,S1,active,",
    "C1,U2,student,S2,deleted,",
    "C1,U3,StudentEnrollment,S1,completed,",
]
PAIRS = {"student_id": "{user_id}", "course_id": "{section_id}"}
COARSE = {"student_sis_id": "{user_id}", "course_sis_id": "{course_id}"}


def read(
    folder: Path,
    lines: list[str],
    templates: dict[str, str],
    format_name: str | None = None,
    *,
    name: str = "upload.csv",
    kind: Kind | None = None,
    drop: bool = False,
    are_one: bool = False,
) -> ReadFile:
    path = folder / name
    path.write_bytes(encoded(lines))
    choice = choice_of(format_name, sections_are_one=are_one)
    return read_source(open_source_chosen(path, Choices(kind, templates, None, drop, choice)))


def test_a_mapped_file_enrolls_students_only_and_drops_what_ended(tmp_path: Path) -> None:
    found = read(tmp_path, CANVAS, {"student_id": "D7-{user_id}", "course_id": "D7-{section_id}"})
    assert found.enrolled == {("D7-U1", "D7-S1"): 2}
    assert found.dropped == {("D7-U2", "D7-S2"): "deleted", ("D7-U3", "D7-S1"): "completed"}
    assert found.skipped == 2
    assert any("1 'teacher', 1 'taenrollment'" in notice for notice in found.notices)


def test_columns_that_are_not_mapped_are_those_of_the_system(tmp_path: Path) -> None:
    found = read(tmp_path, CANVAS[:3], {"student_id": "D7-{user_id}"})
    assert found.enrolled == {("D7-U1", "S1"): 2}


@pytest.mark.parametrize(
    ("header", "rows", "templates"),
    [
        (
            "classSourcedId,userSourcedId,role",
            ["C,U,student", "C,T,teacher"],
            {"student_id": "{userSourcedId}", "course_id": "{classSourcedId}"},
        ),
        (
            "sourcedId,classSourcedId,userSourcedId,role,status",
            ["e1,C,U,student,", "e2,C,T,teacher,"],
            {"student_id": "{userSourcedId}", "course_id": "{classSourcedId}"},
        ),
        (
            "sourcedId,role,givenName,familyName,school,orgSourcedIds",
            ["U,student,A,B,C,C", "T,teacher,A,B,C,C", "P,parent,A,B,C,C"],
            {"student_id": "{sourcedId}", "course_id": "{orgSourcedIds}"},
        ),
    ],
)
def test_no_mapping_enrolls_a_teacher(
    tmp_path: Path, header: str, rows: list[str], templates: dict[str, str]
) -> None:
    found = read(tmp_path, [header, *rows], templates)
    assert set(found.enrolled) == {("U", "C")}
    assert found.skipped == len(rows) - 1


def test_a_mapped_roster_stores_students_only(tmp_path: Path) -> None:
    lines = ["sourcedId,role,givenName,familyName,status", "U,student,Ada,L,", "T,teacher,Al,T,"]
    lines += ["O,student,Old,One,tobedeleted"]
    found = read(tmp_path, lines, {"sis_id": "D7-{sourcedId}", "name": "{familyName}, {givenName}"})
    assert found.roster == [{"sis_id": "D7-U", "name": "L, Ada"}]
    assert found.skipped == 2


def test_with_the_format_plain_every_line_counts(tmp_path: Path) -> None:
    found = read(tmp_path, CANVAS, COARSE, "plain")
    assert {student for student, _ in found.enrolled} == {"U1", "T1", "X1", "U2", "U3"}
    assert found.dropped == {}
    assert any("'teacher' in the column 'role', which is not read" in n for n in found.notices)


@pytest.mark.parametrize("format_name", ["canvas", "oneroster", "edx"])
def test_a_mapping_and_a_format_are_refused_together(tmp_path: Path, format_name: str) -> None:
    with pytest.raises(UnreadableFile, match="mapping cannot be used together with") as raised:
        read(tmp_path, CANVAS, PAIRS, format_name)
    assert raised.value.options == ("format", "map")


def test_a_drop_from_a_course_of_several_sections_is_refused(tmp_path: Path) -> None:
    found = read(tmp_path, CANVAS, COARSE)
    assert found.enrolled == {("U1", "C1"): 2}
    assert found.dropped == {}
    assert [line for line, _ in found.refused] == [5, 6]
    assert "course_sis_id: the course is made without section_id" in found.refused[0][1]


def test_sections_may_be_said_to_be_one(tmp_path: Path) -> None:
    found = read(tmp_path, CANVAS, COARSE, are_one=True)
    assert found.dropped == {("U2", "C1"): "deleted", ("U3", "C1"): "completed"}
    assert found.refused == []


def test_a_course_made_with_the_section_can_be_dropped(tmp_path: Path) -> None:
    templates = {"student_id": "{user_id}", "course_id": "{course_id}-{section_id}"}
    assert read(tmp_path, CANVAS, templates).dropped[("U2", "C1-S2")] == "deleted"


def test_a_file_without_roles_whose_lines_are_all_drops_names_its_sections(tmp_path: Path) -> None:
    lines = ["School_id,Section_id,Student_id", "1,S1,U1"]
    templates = {"student_id": "{Student_id}", "course_id": "{School_id}"}
    with pytest.raises(UnreadableFile, match="the course is made without Section_id") as raised:
        read(tmp_path, lines, templates, drop=True)
    assert raised.value.options == ("map", "sections-are-one")
    assert raised.value.parameters == ("map", "sections_are_one")
    source = tmp_path / "upload.csv"
    choice = choice_of(None, sections_are_one=True)
    assert open_source_chosen(source, Choices(None, templates, None, True, choice)).layout.drop
    assert read(tmp_path, lines, templates).enrolled == {("U1", "1"): 2}


@pytest.mark.parametrize(
    ("name", "lines", "templates"),
    [
        ("TeacherRoster.csv", ["Section SIS ID,SIS ID", "S,T"], ("SIS ID", "Section SIS ID")),
        ("teachers.csv", ["School_id,Teacher_id,Last_name", "1,T,X"], ("Teacher_id", "School_id")),
        ("admins.csv", ["user_id,account_id,role,status", "T,1,admin,active"],
         ("user_id", "account_id")),
        ("canvas.csv", ["user_id,course_id,role_id,status", "T,1,4,active"],
         ("user_id", "course_id")),
        ("moodle.csv", ["username,course1,role1", "T,1,teacher"], ("username", "course1")),
        ("moodle2.csv", ["username,course1,type1", "T,1,2"], ("username", "course1")),
        ("users.csv", ["sourcedId,status,givenName,familyName,org", "T,,A,B,1"],
         ("sourcedId", "org")),
    ],
)  # fmt: skip
def test_a_file_that_does_not_show_its_students_is_not_mapped(
    tmp_path: Path, name: str, lines: list[str], templates: tuple[str, str]
) -> None:
    student, course = (f"{{{column}}}" for column in templates)
    mapped = {"student_id": student, "course_id": course}
    with pytest.raises(UnreadableFile, match="write plain as the format") as raised:
        read(tmp_path, lines, mapped, name=name)
    assert raised.value.options == ("map", "format")
    assert len(read(tmp_path, lines, mapped, "plain", name=name).enrolled) == 1


@pytest.mark.parametrize(
    ("header", "usual"),
    [
        ("Section SIS ID,SIS ID", "studentenrollment.csv or teacherroster.csv"),
        ("SIS ID,School SIS ID,Username", "student.csv or teacher.csv"),
    ],
)
def test_a_file_that_only_its_name_can_tell_from_one_about_staff_needs_its_name(
    tmp_path: Path, header: str, usual: str
) -> None:
    lines = [header, "1,2" + ",x" * (header.count(",") - 1)]
    mapped = {"sis_id": "{SIS ID}", "name": "{SIS ID}"}
    if "Section" in header:
        mapped = {"student_id": "{SIS ID}", "course_id": "{Section SIS ID}"}
    with pytest.raises(UnreadableFile, match="only the name of the file can tell") as raised:
        read(tmp_path, lines, mapped)
    assert usual in str(raised.value)
    for name, format_name in (("upload.csv", "plain"), (usual.partition(" ")[0], None)):
        found = read(tmp_path, lines, mapped, format_name, name=name)
        assert len(found.enrolled) + len(found.roster) == 1


def test_a_mapped_sheet_of_a_workbook_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook({"One": [line.split(",") for line in CANVAS]}))
    found = read_source(open_source_chosen(path, Choices(None, {"student_id": "D-{user_id}"})))
    assert set(found.enrolled) == {("D-U1", "S1")}
    assert found.skipped == 2


@pytest.mark.parametrize(
    ("lines", "templates", "roster"),
    [
        (
            [
                "user_id,login_id,first_name,email,status",
                "U1,a,Ada,a@b.test,active",
                "U2,b,B,,deleted",
            ],
            {"name": "Dr. {first_name}"},
            [{"sis_id": "U1", "name": "Dr. Ada", "email": "a@b.test"}],
        ),
        (
            ["course_id,short_name,long_name,status", "C1,c,Logic,active", "C2,d,Art,deleted"],
            {"title": "{long_name} ({short_name})"},
            [{"sis_id": "C1", "title": "Logic (c)"}],
        ),
        (
            ["sourcedId,status,title,classCode,classType", "K,,Logic,L,x", "L,tobedeleted,Art,A,x"],
            {"sis_id": "D7-{sourcedId}"},
            [{"sis_id": "D7-K", "title": "Logic"}],
        ),
        (
            ["sourcedId,orgSourcedId,title,code", "K,O,Logic,L"],
            {"title": "{title} {code}"},
            [{"sis_id": "K", "title": "Logic L"}],
        ),
    ],
)
def test_rosters_of_systems_with_roles_keep_their_statuses_and_columns(
    tmp_path: Path,
    lines: list[str],
    templates: dict[str, str],
    roster: list[dict[str, str]],
) -> None:
    found = read(tmp_path, lines, templates)
    assert found.roster == roster
    says_everyone = any("which of its users are students" in notice for notice in found.notices)
    assert says_everyone == ("user_id" in lines[0])
    # A file of a system without roles is one of our own.
    clever = ["School_id,Section_id,Teacher_id,Name,Title", "1,S1,T1,Logic,Mapped"]
    own = read(tmp_path, clever, {"sis_id": "{Section_id}"}, kind=Kind.COURSES)
    assert own.roster == [{"sis_id": "S1", "title": "Mapped"}]


def test_mapped_reasons_and_moments_count(tmp_path: Path) -> None:
    lines = ["user_id,section_id,role,status,why,at", "U1,S1,student,active,new,2026-01-02"]
    lines += ["U2,S1,student,deleted,,2026-01-03", "T1,S1,teacher,active,,2026-01-03"]
    templates = PAIRS | {"reason": "{why}", "as_of": "{at}T00:00:00Z"}
    path = tmp_path / "upload.csv"
    path.write_bytes(encoded(lines))
    source = open_source_chosen(path, Choices(None, templates))
    records = [entry.record for entry in source.records()]  # type: ignore[union-attr]
    assert [(r["student_id"], r.get("reason"), r["as_of"]) for r in records] == [
        ("U1", "new", "2026-01-02T00:00:00Z"),
        ("U2", "deleted", "2026-01-03T00:00:00Z"),
    ]
    assert source.layout.mapping == {
        "student_id": "{user_id}",
        "course_id": "{section_id}",
        "reason": "{why}",
        "as_of": "{at}T00:00:00Z",
    }


def test_an_action_cannot_be_mapped_beside_a_status(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="whose lines say which of them are drops"):
        read(tmp_path, CANVAS, PAIRS | {"action": "{status}"})
    with pytest.raises(UnreadableFile, match="whose lines say which of them are drops"):
        read(tmp_path, CANVAS, PAIRS, drop=True)


def test_a_bad_cell_names_the_column_of_the_file(tmp_path: Path) -> None:
    lines = ["user_id,section_id,role,status", ",S1,student,active", "U1,S1,student,gone"]
    refused = read(tmp_path, lines, {"course_id": "{section_id}"}).refused
    assert [(line, message.partition(":")[0]) for line, message in refused] == [
        (2, "user_id"),
        (3, "status"),
    ]


def test_refused_lines_are_submitted_again_with_the_same_mapping(tmp_path: Path) -> None:
    path = tmp_path / "upload.csv"
    path.write_bytes(encoded(CANVAS))
    form = open_source_chosen(path, Choices(None, PAIRS)).form
    assert form is not None
    assert (form.mapping, form.format) == (PAIRS, None)
    plain = open_source_chosen(path, Choices(None, PAIRS, format=choice_of("plain"))).form
    assert plain is not None
    assert (plain.mapping, plain.format) == (PAIRS, "plain")


def test_a_package_is_read_as_our_own_if_that_is_said(tmp_path: Path) -> None:
    files = {"a.csv": ["sis_id,name", "U1,Ada"], "b.csv": ["student_id,course_id", "U1,C1"]}
    path = zipped_package(files, tmp_path / "export.zip")
    with open_package(path, Choices(format=choice_of("plain"))) as package:  # type: ignore[union-attr]
        assert [source.batch_name for source in package.sources] == ["students", "enrollments"]
