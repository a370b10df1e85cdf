"""Pairs become requests: one for each student and a hundred courses, within a window."""

from producer.files.grouping import WINDOW
from support.source_files import PAIRS, Open, courses, read


def test_a_request_made_from_a_file_is_not_atomic(opened: Open) -> None:
    ((record, _),) = read(opened(PAIRS + "S1,M1\n"))
    assert record == {"student_id": "S1", "course_ids": ["M1"], "atomic": False}


def test_the_pairs_of_a_student_make_one_request_with_a_line_for_each_course(opened: Open) -> None:
    source = opened(PAIRS + "S2,M1\nS1,M1\nS2,M3\nS1,M2\nS2,M2\n")
    assert courses(source) == [("S2", ["M1", "M3", "M2"], (2, 4, 6)), ("S1", ["M1", "M2"], (3, 5))]


def test_a_repeated_pair_makes_a_further_request(opened: Open) -> None:
    source = opened(PAIRS + "S1,M1\nS1,M2\nS1,M1\nS1,M3\nS1,M1\n")
    assert courses(source) == [
        ("S1", ["M1", "M2"], (2, 3)),
        ("S1", ["M1", "M3"], (4, 5)),
        ("S1", ["M1"], (6,)),
    ]


def test_more_than_a_hundred_courses_make_a_further_request(opened: Open) -> None:
    source = opened(PAIRS + "".join(f"S1,M{n}\n" for n in range(250)))
    assert [len(ids) for _, ids, _ in courses(source)] == [100, 100, 50]


def test_pairs_that_are_far_apart_are_not_grouped(opened: Open) -> None:
    source = opened(PAIRS + "S1,M1\n" * WINDOW + "S1,M2\n")
    assert courses(source)[-1] == ("S1", ["M2"], (2 + WINDOW,))
    assert len(courses(source)) == WINDOW + 1
