"""The columns of a file become those of the contract, and tell the kind of its records."""

import pytest

from producer.errors import UnreadableFile
from producer.schemas import Kind
from support.source_files import PAIRS, Open, courses, read


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("sis_id,name", Kind.STUDENTS),
        ("email,sis_id", Kind.STUDENTS),
        ("sis_id,title", Kind.COURSES),
        ("course_id,student_sis_id", Kind.ENROLLMENTS),
        ("term; student_id ;course_id", Kind.ENROLLMENTS),
    ],
)
def test_the_header_decides_the_kind(opened: Open, header: str, kind: Kind) -> None:
    assert opened(header + "\n").kind is kind


def test_a_given_kind_decides_if_the_header_is_ambiguous(opened: Open) -> None:
    assert read(opened("sis_id\nS1\n", Kind.COURSES)) == [({"sis_id": "S1"}, (2,))]


def test_columns_may_be_mixed_between_keys_and_sis_ids(opened: Open) -> None:
    source = opened("course_id,x,student_sis_id\n 7 ,,4711\n")
    assert courses(source) == [("4711", [7], (2,))]


def test_a_template_combines_several_columns_into_one(opened: Open) -> None:
    source = opened(
        "module,term,id_student\nAAA,2014J,5\n",
        student_sis_id="{id_student}",
        course_sis_id="100%-{module}-{term}",
    )
    assert courses(source) == [("5", ["100%-AAA-2014J"], (2,))]


def test_a_repeated_column_that_is_not_used_does_no_harm(opened: Open) -> None:
    assert read(opened("sis_id,x,x,title\nM1,,,T\n")) == [({"sis_id": "M1", "title": "T"}, (2,))]


def test_a_template_for_an_unknown_column_is_refused_with_a_list_of_ours(opened: Open) -> None:
    with pytest.raises(UnreadableFile, match=r"mapping pupil=.*choose from course_id, .*title"):
        opened(PAIRS, pupil="{student_sis_id}")
