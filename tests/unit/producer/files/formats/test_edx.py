"""Lists of Open edX are read if the submitter names the format."""

from pathlib import Path

import pytest

from producer.errors import UnreadableFile
from support.packages import encoded, read_file

REGISTRAR = ["student_key,course_id,status", "7,C-1,active", "8,C-1,inactive", "9,C-1,"]


def test_a_list_of_the_registrar_enrolls_and_drops(tmp_path: Path) -> None:
    read = read_file(encoded(REGISTRAR), tmp_path, "edx")
    assert read.enrolled == {("7", "C-1"): 2, ("9", "C-1"): 4}
    assert read.dropped == {("8", "C-1"): "inactive"}


def test_a_list_of_users_and_modes_enrolls(tmp_path: Path) -> None:
    read = read_file(encoded(["user,mode,course_id", "ada,audit,C-1"]), tmp_path, "edx")
    assert read.enrolled == {("ada", "C-1"): 2}


def test_the_team_of_a_course_is_counted_and_not_enrolled(tmp_path: Path) -> None:
    lines = ["user,mode,course_id", "ada,verified,C-1", "al,staff,C-1", "bo,instructor,C-1"]
    lines += ["cy,,C-1", "di,Honor,C-1", "ed,beta_testers,C-1"]
    read = read_file(encoded(lines), tmp_path, "edx")
    assert {user for user, _ in read.enrolled} == {"ada", "cy", "di"}
    assert read.skipped == 3
    assert any("1 'staff', 1 'instructor'" in notice for notice in read.notices)


def test_without_the_name_of_the_format_student_key_is_our_key(tmp_path: Path) -> None:
    read = read_file(encoded(["student_key,course_id,status", "7,C-1,active"]), tmp_path)
    assert read.enrolled == {(7, "C-1"): 2}  # type: ignore[comparison-overlap]


def test_a_list_without_a_course_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="has no column course_id; export it with that column"):
        read_file(encoded(["student_key,status", "7,active"]), tmp_path, "edx")
    with pytest.raises(UnreadableFile, match="is not a file of Open edX that can be read"):
        read_file(encoded(["ada@x.test,ada,Ada,NL"]), tmp_path, "edx")
