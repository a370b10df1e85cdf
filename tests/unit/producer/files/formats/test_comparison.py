"""Complete exports are compared with the current enrollments; other files are not."""

from pathlib import Path

import pytest

from producer.files.formats import comparison
from producer.files.formats.comparison import is_complete
from producer.files.reader import open_source
from producer.testing import FakeEnrollmentClient, history
from support.comparing import clever, compared, enroll
from support.packages import Table, encoded, opened, zipped_package

SDS_1: dict[str, Table] = {
    "School.csv": ["SIS ID,Name", "1,North"],
    "Section.csv": ["SIS ID,School SIS ID,Section Name", "C1,1,Algebra"],
    "StudentEnrollment.csv": ["Section SIS ID,SIS ID", "C1,A"],
    "TeacherRoster.csv": ["Section SIS ID,SIS ID", "C2,B"],
}
SDS_2: dict[str, Table] = {
    "classes.csv": ["sourcedId,orgSourcedId,title", "C1,1,Algebra"],
    "enrollments.csv": ["classSourcedId,userSourcedId,role", "C1,A,student", "C1,B,teacher"],
}
ONEROSTER_ENROLLMENTS = [
    "sourcedId,status,classSourcedId,schoolSourcedId,userSourcedId,role,beginDate,endDate",
    "1,,C1,S,A,student,,",
]
CANVAS: dict[str, Table] = {
    "sections.csv": ["section_id,course_id,name,status", "C1,X,Algebra,active"],
    "enrollments.csv": ["course_id,user_id,role,status,section_id", "X,A,student,active,C1"],
}


def oneroster(mode: str | None) -> dict[str, Table]:
    manifest = ["propertyName,value", "oneroster.version,1.1", f"file.enrollments,{mode}"]
    files: dict[str, Table] = {"enrollments.csv": ONEROSTER_ENROLLMENTS}
    files["classes.csv"] = ["sourcedId,status,title,classType", "C1,,Algebra,scheduled"]
    return files if mode is None else {"manifest.csv": manifest, **files}


@pytest.mark.parametrize(
    ("files", "is_whole"),
    [
        (clever(["C1"], [("A", "C1")]), True),
        (SDS_1, True),
        (SDS_2, True),
        (oneroster("bulk"), True),
        (oneroster("delta"), False),
        (oneroster(None), False),
        (CANVAS, False),
    ],
    ids=["Clever", "SDS v1", "SDS v2", "bulk", "delta", "no manifest", "Canvas"],
)
def test_an_export_that_names_everything_is_complete(
    files: dict[str, Table], is_whole: bool, tmp_path: Path
) -> None:
    client = FakeEnrollmentClient()
    enroll(client, {("A", "C1"), ("B", "C1"), ("A", "C2")})
    with opened(zipped_package(files, tmp_path / "export.zip")) as package:
        assert is_complete(package.sources) == is_whole
    # The others could be compared, too: it would only not mean anything.
    assert compared(client, files, tmp_path).not_in_file == 1


def test_a_package_without_enrollments_is_not_complete(tmp_path: Path) -> None:
    files = {name: SDS_1[name] for name in ("School.csv", "Section.csv")}
    with opened(zipped_package(files, tmp_path / "export.zip")) as package:
        assert not is_complete(package.sources)


def test_a_file_of_refused_lines_is_not_complete(tmp_path: Path) -> None:
    for name, header, cells in (("whole.csv", "", ""), ("part.csv", "refused_line,", "2,")):
        path = tmp_path / name
        path.write_bytes(encoded([f"{header}School_id,Section_id,Student_id", f"{cells}1,C1,A"]))
        assert is_complete([open_source(path, None, {})]) == (not header)


def test_the_rolls_are_compared_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "ROLLS_ROWS", 3)
    monkeypatch.setattr(comparison, "MAX_LOOKUP", 2)
    client = FakeEnrollmentClient()
    pairs = {(f"S{n}", f"C{n % 5}") for n in range(40)}
    enroll(client, pairs)
    named = {pair for pair in pairs if pair[0] not in ("S7", "S8", "S12")}
    found = compared(client, clever([f"C{n}" for n in range(5)], sorted(named)), tmp_path)
    assert found == comparison.Comparison(
        3,
        "export.zip: 3 enrollments are current here, but not in the file (2 in 'C2', 1 in 'C3')."
        " No student was dropped; submit drops for those who have left, or submit the export as a"
        " snapshot.",
    )


def test_a_notice_names_a_few_sections(tmp_path: Path) -> None:
    client = FakeEnrollmentClient()
    enroll(client, {("A", f"C{n}") for n in range(1_500)})
    found = compared(client, clever([f"C{n}" for n in range(1_500)], []), tmp_path)
    assert found.notice is not None
    assert "1,500 enrollments are" in found.notice
    assert "(1 in 'C0', 1 in 'C1', 1 in 'C10' and more in other sections)" in found.notice
    one = compared(client, clever(["C9"], []), tmp_path)
    assert one.notice == (
        "export.zip: 1 enrollment is current here, but not in the file (1 in 'C9'). The student was"
        " not dropped; submit a drop if the student has left, or submit the export as a snapshot."
    )
    assert compared(client, clever(["C9"], [("A", "C9")]), tmp_path) == (0, None)


def test_what_cannot_be_counted_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeEnrollmentClient(timeout=0.1)
    enroll(client, {("A", "C1"), ("B", "C1")})
    files = clever(["C1"], [])
    with client.without_worker():
        away = compared(client, files, tmp_path)
    assert away.not_in_file is None
    assert away.notice is not None
    assert "does not name could not be counted. No worker" in away.notice
    monkeypatch.setattr(history, "ROLLS_ROWS", 1)
    late = compared(client, files, tmp_path, seconds=0)
    assert late.notice is not None
    assert late.notice.endswith("Not all were looked up within 0 s.")
