"""Three files of a registrar, with the mistakes that such files have, and their corrections."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Mistake(NamedTuple):
    """A line that is refused: words of its reason on the page, and the cells to type."""

    line: int
    reason: str
    cells: Mapping[str, str]


LONG_NAME = "x" * 300

STUDENTS = (
    "sis_id,name,email\n"
    "00123,Ada Example,ada@example.edu\n"
    "00124,Ben Example,ben@example.edu\n"
    ",Cem Example,cem@example.edu\n"
    "NULL,Dee Example,dee@example.edu\n"
    f"00127,{LONG_NAME},eve@example.edu\n"
    "00128,Fay Example\n"
)
"""An empty id, an id that stands for a missing one, a text that is too long, a cell too few."""

COURSES = (
    "sis_id,title\n"
    "LOGIC-1,Logic\n"
    "ALG-1,Algebra\n"
    "HIST-1,History, modern\n"
    'ART-1,"Art\n'
    "sis_id,title\n"
    "GEO-1,Geometry\n"
)
"""A cell too many, a quotation mark without a partner, the header once more."""

ENROLLMENTS = (
    b"matric no,course_id,action,as_of\n"
    b"00123,LOGIC-1,,\n"
    b"123,ALG-1,,\n"
    b"00124,LOGIK-1,,\n"
    b"00124,alg-1,,\n"
    b"00127,GEO-1,remove,\n"
    b"00128,GEO-1,,yesterday\n"
    b"00124,,,\n"
    b"00123,GE\xd6-1,,\n"
    b"00125,GEO-1,,\n"
)
"""Lost zeros, a misspelled course, another case, an unknown action, no time, an empty cell, a
letter in another encoding, and a student whose line in the roster was refused."""

MISTAKES: Mapping[str, tuple[Mistake, ...]] = {
    "students.csv": (
        Mistake(4, "The cell is empty", {"sis_id": "00125"}),
        Mistake(5, "stands for a missing id", {"sis_id": "00126"}),
        Mistake(6, "has 300 characters", {"name": "Eve Example"}),
        Mistake(7, "has only 2 of 3 cells", {"email": "fay@example.edu"}),
    ),
    "courses.csv": (
        Mistake(4, "has 3 cells, but the file has 2", {"title": "History, modern", "Cell 3": ""}),
        Mistake(5, "has no partner", {"title": "Art"}),
    ),
    "enrollments.csv": (
        Mistake(3, "No student has the id “123”", {"matric no": "00123"}),
        Mistake(4, "No course has the id “LOGIK-1”", {"course_id": "LOGIC-1"}),
        Mistake(5, "No course has the id “alg-1”", {"course_id": "ALG-1"}),
        Mistake(6, "“remove” is not understood", {"action": "enroll"}),
        Mistake(7, "The time is not understood", {"as_of": ""}),
        Mistake(8, "The cell is empty", {"course_id": "LOGIC-1"}),
        Mistake(9, "could not be read", {"course_id": "GEO-1"}),
        Mistake(10, "No student has the id “00125”", {}),
    ),
}
"""The lines to correct, by file. A line without cells to type is sent again as it is."""

REPEATED_HEADER = ("courses.csv", 6)
"""A line that is refused and needs no correction."""


def write_files(folder: Path) -> list[Path]:
    """Write the three files, and return them in an order in which they cannot be sent."""
    contents = {
        "enrollments.csv": ENROLLMENTS,
        "students.csv": STUDENTS.encode(),
        "courses.csv": COURSES.encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]
