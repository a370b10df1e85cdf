"""What is recognized of the requests and lines of a snapshot."""

from collections import Counter

from worker.snapshots.recognizing import Wanted, recognize

STUDENTS, COURSES = {"S1": 1, "S2": 2}, {"LOGIC": 10, "ALG": 11}


def doubts(*wanted: Wanted) -> Counter[tuple[int | None, int | None]]:
    return recognize(wanted, STUDENTS, COURSES).doubts


def test_every_row_of_a_refused_request_is_a_refused_line() -> None:
    unknown = Wanted(("S9",), ("LOGIC-9", "ALG-9"), is_refused=False)
    assert doubts(unknown) == {(None, None): 2}
    assert doubts(unknown._replace(students=("S1",))) == {(1, None): 2}
    assert doubts(unknown._replace(courses=("LOGIC", "ALG", "LOGIC"))) == {
        (None, 10): 1,
        (None, 11): 1,
    }
    assert doubts(Wanted(("S1",), (), is_refused=True)) == {(1, None): 1}


def test_a_line_that_could_not_be_read_is_one_refused_line() -> None:
    cells = ("S1", "LOGIC-9", "2026")
    assert doubts(Wanted(cells, cells, is_refused=True)) == {(1, None): 1}
    unknown = ("S9", "LOGIC-9")
    assert doubts(Wanted(unknown, unknown, is_refused=True)) == {(None, None): 1}
