from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import UnreadableFile
from support.packages import encoded, opened, read_file, read_package, zipped_package

MANIFEST = [
    "propertyName,value",
    "manifest.version,1.0",
    "oneroster.version,1.1",
    "file.academicSessions,bulk",
    "file.classes,bulk",
    "file.enrollments,bulk",
    "file.users,bulk",
    "file.demographics,absent",
]
USERS_1_1 = [
    (
        "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,"
        "familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password"
    ),
    'u-1,,,true,o-1,student,ada,,Ada,Lovelace,,,ada@school.test,,,,"09,10",',
    "u-2,active,,TRUE,o-1,Student,alan,,Alan,Turing,,,,,,,09,",
    "u-3,,,true,o-1,teacher,grace,,Grace,Hopper,,,,,,,,",
    "u-4,tobedeleted,,true,o-1,student,kurt,,Kurt,Goedel,,,,,,,,",
]
CLASSES = [
    (
        "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,"
        "schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods"
    ),
    "c-1,,,Algebra,09,k-1,ALG,scheduled,,o-1,t-1,,,",
    "c-2,,,Biology,09,k-2,BIO,Scheduled,,o-1,t-1,,,1",
]
ENROLLMENTS = [
    (
        "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,"
        "beginDate,endDate"
    ),
    "e-1,,,c-1,o-1,u-1,student,,,",
    "e-2,active,2026-08-01,c-2,o-1,u-1,Student,false,2020-09-01,2999-06-30",
    "e-3,,,c-1,o-1,u-3,teacher,true,,",
    "e-4,tobedeleted,2026-08-01T10:00:00.000Z,c-1,o-1,u-2,student,,,",
    "e-5,inactive,,c-2,o-1,u-2,student,,,",
    "e-6,active,,c-1,o-1,u-4,student,,2019-08-20,1/05/2020",
    "e-7,,,c-2,o-1,u-4,student,,2998-01-01,",
    "e-8,,,c-2,o-1,u-9,proctor,,,",
]
SESSIONS = [
    "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear",
    "t-1,,,Year,schoolYear,2026-08-01,2027-06-30,,2027",
]
PACKAGE: dict[str, Sequence[str] | bytes] = {
    "manifest.csv": MANIFEST,
    "academicSessions.csv": SESSIONS,
    "users.csv": USERS_1_1,
    "classes.csv": CLASSES,
    "enrollments.csv": ENROLLMENTS,
}
USERS_1_2 = [
    (
        "sourcedId,status,dateLastModified,enabledUser,username,userIds,givenName,familyName,"
        "middleName,identifier,email,sms,phone,agentSourcedIds,grades,password,userMasterIdentifier,"
        "resourceSourcedIds,prefferedGivenName,preferredMiddleName,preferredFamilyName,"
        "primaryOrgSourcedId,pronouns"
    ),
    "u-1,,,true,ada,,Ada,Lovelace,,,ada@school.test,,,,09,,,,,,,o-1,",
    "u-2,,,true,alan,,Alan,Turing,,,,,,,09,,,,,,,o-1,",
    "u-3,,,true,grace,,Grace,Hopper,,,,,,,,,,,,,,o-1,",
    "u-5,,,true,emmy,,Emmy,Noether,,,,,,,,,,,,,,o-1,",
]
ROLES = [
    (
        "sourcedId,status,dateLastModified,userSourcedId,roleType,role,beginDate,endDate,orgSourcedId,"
        "userProfileSourcedId"
    ),
    "r-1,,,u-1,primary,student,,,o-1,",
    "r-2,,,u-3,primary,teacher,,,o-1,",
    "r-3,,,u-5,secondary,Student,,,o-1,",
    "r-4,,,u-5,primary,teacher,,,o-1,",
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return zipped_package(PACKAGE, tmp_path / "export.zip")


def test_students_of_a_package_are_enrolled_in_their_classes(package: Path) -> None:
    read = read_package(package)["enrollments"]
    assert read.enrolled == {("u-1", "c-1"): 2, ("u-1", "c-2"): 3, ("u-4", "c-2"): 8}
    assert read.dropped == {
        ("u-2", "c-1"): "tobedeleted",
        ("u-2", "c-2"): "inactive",
        ("u-4", "c-1"): "ended",
    }
    assert read.refused == []
    assert read.skipped == 2


def test_other_roles_are_counted_by_name(package: Path) -> None:
    notices = read_package(package)["enrollments"].notices
    assert any("1 'teacher', 1 'proctor'" in notice for notice in notices)
    assert any("1 line begins after today" in notice for notice in notices)
    assert any("1 'tobedeleted', 1 'inactive', 1 'ended'" in notice for notice in notices)


def test_only_students_are_stored_in_the_roster(package: Path) -> None:
    read = read_package(package)
    assert list(read) == ["students", "courses", "enrollments"]
    assert read["students"].roster == [
        {"sis_id": "u-1", "name": "Ada Lovelace", "email": "ada@school.test"},
        {"sis_id": "u-2", "name": "Alan Turing"},
    ]
    assert read["courses"].roster == [
        {"sis_id": "c-1", "title": "Algebra"},
        {"sis_id": "c-2", "title": "Biology"},
    ]


def test_roles_of_version_1_2_decide_who_is_a_student(tmp_path: Path) -> None:
    files = {**PACKAGE, "users.csv": USERS_1_2, "roles.csv": ROLES}
    read = read_package(zipped_package(files, tmp_path / "export.zip"))["students"]
    # u-2 has no role, but is enrolled as a student; u-5 is a student and a teacher.
    assert [record["sis_id"] for record in read.roster] == ["u-1", "u-2", "u-5"]
    assert read.skipped == 1


def test_users_of_version_1_2_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="which of the users are students; submit it together"):
        read_file(encoded(USERS_1_2), tmp_path)


@pytest.mark.parametrize("folder", ["", "Export 2026/"])
@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
def test_names_of_files_may_have_another_case_and_a_folder(
    tmp_path: Path, folder: str, change: type[str]
) -> None:
    files = {folder + change(name): lines for name, lines in PACKAGE.items()}
    read = read_package(zipped_package(files, tmp_path / "export.zip"))
    assert len(read["enrollments"].enrolled) == 3


def test_a_folder_is_read_like_an_archive(tmp_path: Path, package: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name, lines in PACKAGE.items():
        assert not isinstance(lines, bytes)
        (folder / name).write_bytes(encoded(lines))
    expected = {name: read._replace(notices=[]) for name, read in read_package(package).items()}
    read = {name: read._replace(notices=[]) for name, read in read_package(folder).items()}
    assert read == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    data=st.data(),
)
def test_every_form_and_order_of_columns_gives_the_same(
    tmp_path: Path, encoding: str, line_end: str, data: st.DataObject
) -> None:
    expected = read_package(zipped_package(PACKAGE, tmp_path / "plain.zip"))["enrollments"]
    rows = [line.split(",") for line in ENROLLMENTS]
    order = data.draw(st.permutations(range(len(rows[0]))))
    shuffled = [",".join(row[at] for at in order) for row in rows]
    files = {**PACKAGE, "enrollments.csv": shuffled}
    path = zipped_package(files, tmp_path / "form.zip", encoding=encoding, line_end=line_end)
    read = read_package(path)["enrollments"]
    assert read._replace(notices=[]) == expected._replace(notices=[])


def test_headers_of_real_packages_are_read(tmp_path: Path) -> None:
    """Misspelled names, empty header cells and unknown columns do not matter."""
    enrollments = [
        (
            "SourcedID ,status,dataLastModified,classSourcedId,schoolSourcedId,"
            "USERSOURCEDID,role,,,ext_note"
        ),
        "e-1,,2023-01-05 00:00:00,c-1,o-1,u-1,student,,,x",
        'e-2,,"1/05/2023",c-2,o-1,u-1,student,,,',
    ]
    files = {
        **PACKAGE,
        "manifest.csv": ["propertyName,value", "mainfest.version,1", "file.catagories,absent"],
        "enrollments.csv": encoded(enrollments).rstrip(b"\n"),
    }
    read = read_package(zipped_package(files, tmp_path / "export.zip"))["enrollments"]
    assert set(read.enrolled) == {("u-1", "c-1"), ("u-1", "c-2")}
    assert read.refused == []


def test_a_date_that_cannot_be_read_is_reported_and_the_student_enrolled(tmp_path: Path) -> None:
    enrollments = [*ENROLLMENTS[:1], "e-1,,,c-1,o-1,u-1,student,,,in June"]
    files = {**PACKAGE, "enrollments.csv": enrollments}
    read = read_package(zipped_package(files, tmp_path / "export.zip"))["enrollments"]
    assert set(read.enrolled) == {("u-1", "c-1")}
    assert any("first in line 2: 'in June'" in notice for notice in read.notices)


def test_a_status_without_a_meaning_is_refused_by_its_line(tmp_path: Path) -> None:
    enrollments = [*ENROLLMENTS[:2], "e-2,perhaps,,c-1,o-1,u-2,student,,,"]
    files = {**PACKAGE, "enrollments.csv": enrollments}
    read = read_package(zipped_package(files, tmp_path / "export.zip"))["enrollments"]
    assert set(read.enrolled) == {("u-1", "c-1")}
    ((line, message),) = read.refused
    assert line == 3
    assert message.startswith("status: 'perhaps' is not a status; write one of active")


def test_missing_extra_and_empty_files_are_reported(tmp_path: Path) -> None:
    files = {**PACKAGE, "readme.csv": ["a,b"], "demographics.csv": b"", "notes.doc": b"?"}
    del files["users.csv"]
    with opened(zipped_package(files, tmp_path / "export.zip")) as package:
        notices = " ".join(package.notices)
    assert "has no users.csv, although its manifest says that it has one (bulk)" in notices
    assert "readme.csv in" in notices
    assert "notes.doc in" in notices
    assert "demographics.csv in" in notices
    assert "is read, although the manifest says that it is absent" in notices


@pytest.mark.parametrize("line_end", ["\r", "\r\n"])
def test_a_manifest_may_end_its_lines_in_other_ways(tmp_path: Path, line_end: str) -> None:
    manifest = line_end.join([*MANIFEST, "file.courses,bulk"]).encode()
    mixed = manifest.replace(b"file.users,bulk", b"file.users,bulk\n", 1)
    for number, content in enumerate((manifest, mixed)):
        path = zipped_package({**PACKAGE, "manifest.csv": content}, tmp_path / f"{number}.zip")
        with opened(path) as package:
            assert "has no courses.csv, although" in " ".join(package.all_notices())


@pytest.mark.parametrize("row", ['"', f'x,"{"y" * 200_000}', 'x,"a"b\x00', '"\r'])
def test_a_manifest_that_is_no_csv_says_nothing(tmp_path: Path, row: str) -> None:
    path = zipped_package({**PACKAGE, "manifest.csv": [*MANIFEST, row]}, tmp_path / "e.zip")
    with opened(path) as package:
        assert package.sources


def test_an_id_that_is_too_long_is_refused_and_not_stored(tmp_path: Path) -> None:
    long = "u" * 300
    users = [*USERS_1_1, f"{long},,,true,o-1,student,ada,,Ada,Lovelace,,,,,,,,"]
    files = read_package(zipped_package({**PACKAGE, "users.csv": users}, tmp_path / "e.zip"))
    ((line, message),) = files["students"].refused
    assert line == len(users)
    assert "255" in message


def test_a_manifest_alone_changes_nothing(tmp_path: Path) -> None:
    absent = ["propertyName,value", "file.users,absent", "file.enrollments,absent"]
    with opened(zipped_package({"manifest.csv": absent}, tmp_path / "export.zip")) as package:
        assert package.sources == ()
        assert "there is nothing to change" in " ".join(package.notices)


def test_messages_name_the_file_and_its_package(package: Path) -> None:
    with opened(package) as found:
        assert [source.name for source in found.sources] == [
            f"{name}.csv in {package}" for name in ("users", "classes", "enrollments")
        ]


def test_refused_lines_are_recognized_by_their_header(tmp_path: Path) -> None:
    content = ["refused_line,refused_code,refused_message," + ENROLLMENTS[0]]
    content += ["3,invalid_request,reason," + ENROLLMENTS[1]]
    assert read_file(encoded(content), tmp_path).enrolled == {("u-1", "c-1"): 2}


def test_a_second_header_is_no_enrollment(tmp_path: Path) -> None:
    content = [*ENROLLMENTS[:2], ENROLLMENTS[0], ENROLLMENTS[2]]
    read = read_file(encoded(content), tmp_path)
    assert set(read.enrolled) == {("u-1", "c-1"), ("u-1", "c-2")}
    assert read.refused == [(3, "the line repeats the header; remove it")]


def test_a_teacher_who_is_a_student_elsewhere_is_stored_and_enrolled(tmp_path: Path) -> None:
    users = ["sourcedId,status,role,givenName,familyName"]
    users += ["U1,,student,A,B", "T1,,teacher,C,D", "T2,,teacher,E,F", "T3,,,G,H"]
    rows = ["sourcedId,classSourcedId,userSourcedId,role"]
    rows += ["e1,K1,T1,teacher", "e2,K2,T1,student", "e3,K1,T2,teacher"]
    files = {"users.csv": users, "enrollments.csv": rows}
    read = read_package(zipped_package(files, tmp_path / "export.zip"))
    assert [record["sis_id"] for record in read["students"].roster] == ["U1", "T1"]
    assert set(read["enrollments"].enrolled) == {("T1", "K2")}
