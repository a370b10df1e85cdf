"""A bad cell refuses its line, with the column and the remedy, and harms no other line."""

import pytest

from producer.contract.chunks import RefusedLine
from producer.files.describing import HEAD_BYTES
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.source_files import KEYS, PAIRS, Open, courses, read

LONG = "9" * 5_000
BAD_LINES: dict[str, tuple[str, str, str | None, list[str]]] = {
    "too few cells": (PAIRS, "S1", None, ["has 1 cell,", "the header has 2"]),
    "too many cells": (PAIRS, "S1,M1,M2", None, ["has 3 cells", "the header has 2"]),
    "no student": (PAIRS, ",M1", "student_sis_id", ["is empty"]),
    "a blank course": (PAIRS, "S1,  ", "course_sis_id", ["is empty"]),
    "a long SIS id": (PAIRS, "S1," + "x" * 256, "course_sis_id", ["256 characters", "255"]),
    "NUL": (PAIRS, "S1,M\0", None, ["cell 2 contains the character NUL"]),
    "not UTF-8": (PAIRS, "S1,M\udcff", None, ["cell 2 is not UTF-8", "save the file as UTF-8"]),
    "a name for a key": (
        KEYS,
        "S1,7",
        "student_key",
        ["'S1' is not one of our keys", "integers from 1 to 2147483647", "rename it to student_id"],
    ),
    "a course's name for its key": (KEYS, "7,M1", "course_key", ["rename it to course_id"]),
    "no key": (KEYS, ",7", "student_key", ["the cell is empty; fill it in"]),
    "zero": (KEYS, "0,7", "student_key", ["'0' is not one of our keys"]),
    "leading zeros": (KEYS, "003,7", "student_key", ["'003' is not", "without leading zeros"]),
    "a negative key": (KEYS, "-1,7", "student_key", ["'-1' is not one of our keys"]),
    "a key with a sign": (KEYS, "+1,7", "student_key", ["'+1' is not one of our keys"]),
    "a fraction": (KEYS, "1.0,7", "student_key", ["'1.0' is not one of our keys"]),
    "an exponent": (KEYS, "1e5,7", "student_key", ["'1e5' is not one of our keys"]),
    "a separator": (KEYS, "1_000,7", "student_key", ["'1_000' is not one of our keys"]),
    "a key too large": (KEYS, "2147483648,7", "student_key", ["'2147483648' is not one of"]),
    "digits of another script": (KEYS, "٣,7", "student_key", [r"'\u0663' is not one of our keys"]),
    "a huge key": (KEYS, f"{LONG},7", "student_key", [f"'{LONG[:60]}' is not one of our keys"]),
    "a huge key behind zeros": (KEYS, f"00000000001{LONG},7", "student_key", ["is not one of"]),
}


@pytest.mark.parametrize("blank", [0, HEAD_BYTES], ids=["in the first lines", "later"])
@pytest.mark.parametrize(("header", "bad", "field", "words"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_refused_with_its_column_and_harms_no_other(
    opened: Open, header: str, bad: str, field: str | None, words: list[str], blank: int
) -> None:
    lines = "\n" * blank
    content = f"{header}1,2\n{lines}{bad}\n3,4\n".encode("utf-8", "surrogateescape")
    entries = list(opened(content).records())
    (line,) = (entry for entry in entries if isinstance(entry, RefusedLine))
    assert (line.line, line.field) == (3 + blank, field)
    for word in words:
        assert word in line.message
    good = [entry.lines for entry in entries if isinstance(entry, SourceRecord)]
    assert good == [[2], [4 + blank]]


def test_a_key_at_the_bounds_is_accepted(opened: Open) -> None:
    assert courses(opened(KEYS + "1,2147483647\n")) == [(1, [2147483647], (2,))]


@pytest.mark.parametrize(
    ("sis_id", "words"),
    [
        ("NULL", "'NULL' stands for a missing value"),
        ("nan", "missing value"),
        ("NaN", "missing value"),
        ("None", "missing value"),
        ("<NA>", "missing value"),
        ("NaT", "missing value"),
        ("#N/A", "missing value"),
        ("#REF!", "missing value"),
        ("#VALUE!", "missing value"),
        ("#DIV/0!", "missing value"),
        ("#######", "missing value"),
        *((error, "missing value") for error in ("#NV", "#WERT!", "#BEZUG!", "#NOM?", "#N/D")),
        *((error, "missing value") for error in ("#¡VALOR!", "#¿NOMBRE?", "#\u041d/\u0414")),
        ("H1\u200b", "'H1\\u200b' contains invisible characters"),
        ("\ufeffH1", "invisible characters"),
        ("H\u202e1", "invisible characters"),
        ("SIS_ID", "repeats the header"),
        ("\ufeffsis_id", "repeats the header"),
    ],
)
def test_a_roster_refuses_what_is_probably_not_an_id(opened: Open, sis_id: str, words: str) -> None:
    line, other = read(opened(f"sis_id,name\n{sis_id},Ada\nH2,Ben\n"))
    assert line[0] == 2
    assert words in line[1]
    assert other == ({"sis_id": "H2", "name": "Ben"}, (3,))


@pytest.mark.parametrize(
    "sis_id", ["NAN-1", "NULL-7", "Nano", "NONE1", "#1", "#", "NA", "N/A-2", "#1!", "#C/12", "C#!"]
)
def test_a_roster_accepts_ids_that_only_resemble_a_missing_value(opened: Open, sis_id: str) -> None:
    (record,) = read(opened(f"sis_id,name\n{sis_id},Ada\n"))
    assert record == ({"sis_id": sis_id, "name": "Ada"}, (2,))


REPEATED = "the line repeats the header; remove it"


@pytest.mark.parametrize(
    ("header", "row", "repeated"),
    [
        ("student_sis_id,course_sis_id", "1,2", "student_sis_id,course_sis_id"),
        ("student_sis_id,course_sis_id", "1,2", "\ufeffstudent_sis_id,course_sis_id"),
        ("student_id,note,course_id", "1,,2", "STUDENT_ID,comment,Course_ID"),
        ("course_id,student_id", "1,2", '"course_id"," student_id\u200b"'),
        ("student_key,course_key", "1,2", "student_key,course_key"),
        ("student_id,course_id,refused_guarded", "1,2,", "student_id,course_id,refused_guarded"),
    ],
)
def test_a_repeated_header_between_enrollments_is_refused_as_such(
    opened: Open, header: str, row: str, repeated: str
) -> None:
    entries = list(opened(f"{header}\n{row}\n{repeated}\n{row}\n").records())
    (line,) = (entry for entry in entries if isinstance(entry, RefusedLine))
    assert line.line == 3
    assert REPEATED in line.message
    assert [e.lines for e in entries if isinstance(e, SourceRecord)] == [[2], [4]]


def test_a_repeated_header_is_refused_whatever_is_mapped(opened: Open) -> None:
    long = "matric" * 300
    text = f"{long},module,term\nS1,M,1\n{long.upper()},Module,Term\nS2,M,1\n"
    pairs = opened(text, student_id=f"{{{long}}}", course_id="{module}-{term}")
    (line,) = (entry for entry in read(pairs) if entry[0] == 3)
    assert REPEATED in line[1]
    roster = opened(text, Kind.STUDENTS, sis_id=f"{{{long}}}", name="{module}")
    first, second, third = read(roster)
    assert (second[0], REPEATED in second[1]) == (3, True)
    assert (first[1], third[1]) == ((2,), (4,))


def test_an_id_may_be_the_name_of_a_column(opened: Open) -> None:
    source = opened("matric,course_id\nmatric,C1\nS1,course_id\n", student_id="{matric}")
    assert courses(source) == [("matric", ["C1"], (2,)), ("S1", ["course_id"], (3,))]
