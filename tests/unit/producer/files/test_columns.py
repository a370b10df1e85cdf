"""The columns of a file become those of the contract, and tell the kind of its records."""

from collections.abc import Callable

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
        ("student_key,course_key,title", Kind.ENROLLMENTS),
        ("sis_id,student_id,course_key", Kind.ENROLLMENTS),
        ("sis_id,name,student_key,course_id", Kind.ENROLLMENTS),
        ("sis_id,name,student_key", Kind.STUDENTS),
        ("sis_id,title,course_id", Kind.COURSES),
    ],
)
def test_the_header_decides_the_kind(opened: Open, header: str, kind: Kind) -> None:
    assert opened(header + "\n").kind is kind


def test_a_given_kind_decides_if_the_header_is_ambiguous(opened: Open) -> None:
    assert read(opened("sis_id\nS1\n", Kind.COURSES)) == [({"sis_id": "S1"}, (2,))]


def test_columns_may_be_mixed_between_keys_and_sis_ids(opened: Open) -> None:
    source = opened("course_key,x,student_sis_id\n 7 ,,4711\n")
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
    with pytest.raises(
        UnreadableFile, match=r"mapping pupil=.*choose from action, as_of, course_id, .*title"
    ):
        opened(PAIRS, pupil="{student_sis_id}")


@pytest.mark.parametrize(
    "header", ["STUDENT_SIS_ID,Course_SIS_ID", " student_sis_id ,\ufeffcourse_sis_id\u200b"]
)
def test_case_spaces_and_invisible_characters_do_not_distinguish_columns(
    opened: Open, header: str
) -> None:
    assert courses(opened(f"{header}\nS1,M1\n")) == [("S1", ["M1"], (2,))]
    mapped = opened(f"{header},Term\nS1,M1,T\n", course_sis_id="{COURSE_sis_id}-{term}")
    assert courses(mapped) == [("S1", ["M1-T"], (2,))]


def test_a_mapping_and_a_given_kind_win_over_the_names_of_other_columns(opened: Open) -> None:
    file = "course_id,user_id,name,role\nC-100,u01,Ada,student\n"
    mapped = opened(file, student_sis_id="{user_id}", course_sis_id="{course_id}")
    assert courses(mapped) == [("u01", ["C-100"], (2,))]
    roster = opened("sis_id,name,title,course_id\nS1,Ada,Dr,C\n", Kind.STUDENTS)
    assert read(roster) == [({"sis_id": "S1", "name": "Ada"}, (2,))]
    assert courses(opened("student_sis_id,course_sis_id,name\nS1,M1,Ada\n")) == [
        ("S1", ["M1"], (2,))
    ]


def test_a_template_over_empty_cells_is_empty_and_an_id_needs_all_its_parts(opened: Open) -> None:
    roster = opened(
        "id,first,last\nS1,,\nS2,Ada,\n", Kind.STUDENTS, sis_id="{id}", name="{first} {last}"
    )
    assert read(roster) == [
        ({"sis_id": "S1"}, (2,)),
        ({"sis_id": "S2", "name": "Ada "}, (3,)),
    ]
    pairs = opened(
        "student_sis_id,module,term\nS1,,\nS2,AAA,\nS3,AAA,B\n", course_sis_id="{module}-{term}"
    )
    assert read(pairs) == [
        (2, "course_sis_id: the cell is empty; fill it in"),
        (3, "course_sis_id: the cell of term is empty; fill it in"),
        ({"student_id": "S3", "course_ids": ["AAA-B"], "atomic": False}, (4,)),
    ]


@pytest.mark.parametrize(
    ("file", "delimiter"),
    [
        ('student_sis_id;course_sis_id;"Note, internal, not shown"\nS1;M1;x\n', ";"),
        ("student_sis_id|course_sis_id|a,b,c,d\nS1|M1|x,y\n", "|"),
        ("sep=;\r\nstudent_sis_id;course_sis_id\r\nS1;M1\r\n", ";"),
        ("\ufeffsep=!\nstudent_sis_id!course_sis_id\nS1!M1\n", "!"),
    ],
)
def test_the_delimiter_is_found_outside_of_quotes_or_told_to_excel(
    opened: Open, file: str, delimiter: str
) -> None:
    first_row = 3 if "sep=" in file else 2
    assert courses(opened(file)) == [("S1", ["M1"], (first_row,))]
    assert delimiter in file


@pytest.mark.parametrize("mark", ["", "\ufeff", "ï»¿"])
@pytest.mark.parametrize("joint", ["_", " ", "-", "", " _ ", "\u00a0"])
@pytest.mark.parametrize("case", [str.upper, str.title, str.lower])
def test_names_that_join_their_words_in_another_way_are_ours(
    opened: Open, joint: str, case: Callable[[str], str], mark: str
) -> None:
    names = [case(name).replace("_", joint) for name in ("student_sis_id", "course_id")]
    assert courses(opened(f"{mark}{','.join(names)}\n7,C1\n")) == [("7", ["C1"], (2,))]


def test_a_key_of_another_system_is_not_taken_for_ours(opened: Open) -> None:
    for name in ("Student Key", "StudentKey", "student-key"):
        with pytest.raises(UnreadableFile, match="need a column student_id"):
            opened(f"{name},course_id\n7,C1\n")
