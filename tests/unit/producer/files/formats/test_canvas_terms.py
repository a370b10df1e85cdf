"""Enrollments of Canvas end with the term of their course."""

from collections.abc import Sequence
from pathlib import Path

from producer.contract.chunks import RefusedLine
from producer.publishing.chunking import CELL_END
from support.packages import opened, read_package, zipped_package

TERMS = [
    "term_id,name,status,date_override_enrollment_type,start_date,end_date",
    "past,Fall 2020,active,,2020-08-01T00:00:00Z,2020-12-20T00:00:00Z",
    "past,,active,TeacherEnrollment,2020-08-01T00:00:00Z,2999-06-30T00:00:00Z",
    "longer,Spring 2020,active,,2020-01-01,2020-05-30",
    "longer,,active,StudentEnrollment,2020-01-01,2999-05-30",
    "now,Year,active,,2020-08-01,2999-06-30",
    "default,Default Term,active,,,",
    "gone,Old,deleted,,2020-08-01,2020-12-20",
]
COURSES = [
    "course_id,short_name,long_name,status,term_id,start_date,end_date",
    "c-past,P,Past,active,past,,",
    "c-longer,L,Longer,active,longer,,",
    "c-now,N,Now,active,now,,2020-12-20",
    "c-own,O,Own,active,past,,2999-12-20",
    "c-default,D,Default,active,default,,",
    "c-none,E,None,active,,,",
    "c-gone,G,Gone,active,gone,,",
]
SECTIONS = [
    "section_id,course_id,name,status,start_date,end_date",
    "s-past,c-past,Monday,active,,",
    "s-own,c-past,Tuesday,active,,2999-12-20",
    "s-moved,c-past,Wednesday,active,,",
    "s-now,c-now,Thursday,active,,",
    "s-lost,c-lost,Friday,active,,",
]
MOVED = ["xlist_course_id,section_id,status", "c-now,s-moved,active"]
HEADER = "course_id,user_id,role,section_id,status,start_date,end_date"


def package(tmp_path: Path, enrollments: Sequence[str], **others: Sequence[str]) -> Path:
    files = {"terms": TERMS, "courses": COURSES, "sections": SECTIONS, "xlists": MOVED, **others}
    content = {f"{name}.csv": lines for name, lines in files.items() if lines}
    path = tmp_path / "export.zip"
    return zipped_package({**content, "enrollments.csv": [HEADER, *enrollments]}, path)


def test_an_enrollment_ends_with_the_term_of_its_course_or_section(tmp_path: Path) -> None:
    courses = [line.split(",")[0] for line in COURSES[1:]]
    sections = [line.split(",")[0] for line in SECTIONS[1:]]
    lines = [
        *(f"{course},u-1,student,,active,," for course in courses),
        *(f"c-past,u-1,student,{section},active,," for section in sections),
        "c-past,u-2,student,,active,2020-08-01,2999-01-01",
        "c-past,t-1,teacher,,active,,",
    ]
    read = read_package(package(tmp_path, lines))["enrollments"]
    ended = [("u-1", "c-past"), ("u-1", "s-past")]
    assert read.dropped == dict.fromkeys(ended, "term ended")
    expected = {("u-1", name) for name in (*courses, *sections)} - {*ended} | {("u-2", "c-past")}
    assert read.enrolled.keys() == expected
    assert any("2 lines are read as drops: 2 'term ended'" in notice for notice in read.notices)


def test_courses_without_a_term_or_an_end_are_usual_and_others_are_noticed(tmp_path: Path) -> None:
    with opened(package(tmp_path, ["c-now,u-1,student,,active,,"])) as read:
        assert not any("end date" in notice for notice in read.notices)
    terms = [*TERMS[:1], "past,Fall,active,,,soon"]
    with opened(package(tmp_path, ["c-now,u-1,student,,active,,"], terms=terms)) as read:
        notices = "\n".join(read.notices)
    assert "1 term has no end date that is certain (line 2: 'soon')" in notices
    assert "classes name terms (first in line 3: 'longer') that terms.csv" in notices


def test_without_its_terms_a_package_ends_nothing(tmp_path: Path) -> None:
    path = package(tmp_path, ["c-past,u-1,student,s-past,active,,"], terms=())
    assert read_package(path)["enrollments"].enrolled == {("u-1", "s-past"): 2}


def test_a_line_that_has_ended_is_a_drop_also_when_it_comes_back(tmp_path: Path) -> None:
    with opened(package(tmp_path, ["c-past,u-1,student,,active,,"])) as read:
        (record,) = (line for line in read.sources[-1].records())
    assert not isinstance(record, RefusedLine)
    (cells,) = record.cells or []
    assert str(cells).split(CELL_END)[4] == "completed"
