"""Lines count at their last change if the submitter says so, and the file says when."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from producer.errors import UnreadableFile
from producer.files.describing import Choices
from producer.files.formats.packages import open_package
from producer.files.formats.registry import choice_of
from producer.files.reader import open_source_chosen
from producer.publishing.chunking import SourceRecord
from producer.publishing.dating import BATCH_MOMENT
from support.packages import encoded, zipped_package

HEADER = "sourcedId,status,dateLastModified,classSourcedId,userSourcedId,role,beginDate,endDate"
CHOICES = Choices(format=choice_of(None, moments_from_file=True))
LINES = [
    HEADER,
    "e1,active,2026-08-01T08:00:00.000Z,C1,U1,student,,",
    "e2,tobedeleted,2026-08-02T08:00:00Z,C1,U2,student,,",
    "e3,active,2026-08-03,C1,U3,student,,",
    "e4,active,2026-08-03 08:00:00,C1,U4,student,,",
    "e5,active,,C1,U5,student,,",
    "e6,active,2026-08-04T10:00:00+02:00,C1,U6,student,,",
    "e7,active,2026-08-05T08:00:00Z,C1,T7,teacher,,",
    "e8,active,2026-01-05T08:00:00Z,C1,U8,student,2026-01-01,2026-06-30",
]


def moments(path: Path, choices: Choices = CHOICES) -> dict[str, str | None]:
    BATCH_MOMENT.set(datetime(2026, 9, 1, tzinfo=UTC))
    source = open_source_chosen(path, choices)
    found = {
        entry.record["student_id"]: entry.record.get("as_of")
        for entry in source.records()
        if isinstance(entry, SourceRecord)
    }
    BATCH_MOMENT.set(None)
    return found


def test_a_whole_time_is_the_moment_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "enrollments.csv"
    path.write_bytes(encoded(LINES))
    assert moments(path) == {
        "U1": "2026-08-01T08:00:00.000Z",
        "U2": "2026-08-02T08:00:00Z",
        "U3": None,
        "U4": None,
        "U5": None,
        "U6": "2026-08-04T10:00:00+02:00",
        "U8": None,  # Its end is seen when the file is submitted.
    }
    source = open_source_chosen(path, CHOICES)
    list(source.records())
    assert any("3 lines without a whole time" in notice for notice in source.notices)
    assert set(moments(path, Choices()).values()) == {None}


def test_a_misspelled_column_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "enrollments.csv"
    path.write_bytes(encoded([HEADER.replace("dateLast", "dataLast"), LINES[1]]))
    assert moments(path) == {"U1": "2026-08-01T08:00:00.000Z"}


def test_rosters_of_a_package_have_moments(tmp_path: Path) -> None:
    users = ["sourcedId,status,dateLastModified,role,givenName,familyName"]
    users += ["U1,active,2026-08-01T08:00:00Z,student,Ada,Lovelace"]
    files = {"users.csv": users, "enrollments.csv": LINES}
    path = zipped_package(files, tmp_path / "export.zip")
    with open_package(path, CHOICES) as package:  # type: ignore[union-attr]
        (student,) = package.sources[0].records()
    assert isinstance(student, SourceRecord)
    assert student.record["as_of"] == "2026-08-01T08:00:00Z"


@pytest.mark.parametrize(
    "lines",
    [
        ["student_id,course_id", "U1,C1"],
        ["course_id,user_id,role,status", "C1,U1,student,active"],
        ["sourcedId,classSourcedId,userSourcedId,role", "e1,C1,U1,student"],
        ['{"student_id": "U1", "course_ids": ["C1"]}'],
    ],
)
def test_a_file_without_moments_is_refused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(encoded(lines))
    with pytest.raises(UnreadableFile, match="last changed") as raised:
        open_source_chosen(path, CHOICES)
    assert raised.value.options == ("moments-from-file",)


def test_a_package_without_moments_is_refused(tmp_path: Path) -> None:
    files = {"a.csv": ["course_id,user_id,role,status", "C1,U1,student,active"]}
    files["b.csv"] = ["course_id,short_name,status", "C1,Logic,active"]
    path = zipped_package(files, tmp_path / "export.zip")
    with pytest.raises(UnreadableFile, match="no file that says when each line was last changed"):
        open_package(path, CHOICES)


def test_with_a_mapping_moments_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "enrollments.csv"
    path.write_bytes(encoded(LINES))
    with pytest.raises(UnreadableFile, match="the column that is mapped to as_of"):
        open_source_chosen(path, CHOICES._replace(templates={"student_id": "D-{userSourcedId}"}))
