"""Refused lines as a file: each once, with its own columns, in a form that can be submitted."""

import io
import json
from collections.abc import Sequence
from typing import Any

from producer.contract.batches import RefusedRecord
from producer.files.refused_lines import write_csv, write_json_lines
from producer.schemas import Code


def refused(line: int, message: str, record: Any = None, cells: Any = None) -> RefusedRecord:
    code = Code.UNKNOWN_COURSE
    return RefusedRecord(id=1, line=line, code=code, message=message, record=record, cells=cells)


def as_csv(columns: Sequence[str] | None, *refusals: RefusedRecord) -> list[str]:
    file = io.BytesIO()
    count = write_csv(file, columns, None, refusals)
    lines = file.getvalue().decode().splitlines()
    assert count == len(lines) - 1
    return lines


def test_a_line_is_written_once_with_all_its_reasons() -> None:
    cells = ("S1", "a,b")
    twice = [refused(7, "first", None, cells), refused(7, "second", None, cells)]
    assert as_csv(["who", "note"], *twice, *twice[:1]) == [
        "refused_line,refused_code,refused_message,who,note",
        '7,unknown_course,first; second,S1,"a,b"',
    ]


def test_cells_that_did_not_travel_are_made_from_the_record() -> None:
    pair = {"student_id": 4711, "course_ids": ["C1"], "atomic": False}
    roster = {"sis_id": "S1", "name": "Ada"}
    header = "refused_line,refused_code,refused_message,student_id,course_sis_id"
    columns = ["student_id", "course_sis_id"]
    assert as_csv(columns, refused(2, "m", pair)) == [header, "2,unknown_course,m,4711,C1"]
    assert as_csv(["sis_id", "name", "email"], refused(2, "m", roster))[1].endswith("m,S1,Ada,")
    assert as_csv(columns, refused(2, "m", "no object"))[1] == "2,unknown_course,m,,"


def test_columns_that_were_added_before_are_not_repeated() -> None:
    columns = ["refused_line", "sis_id", "refused_code", "refused_message"]
    again = refused(3, "new", None, ("9", "S1", "old", "old"))
    assert as_csv(columns, again) == [
        "refused_line,refused_code,refused_message,sis_id",
        "3,unknown_course,new,S1",
    ]


def test_a_line_with_too_few_cells_is_written_unchanged() -> None:
    assert as_csv(["a", "b"], refused(3, "m", None, ("x",)))[1] == "3,unknown_course,m,x"


def test_records_without_a_header_are_written_in_one_column() -> None:
    record = {"student_id": "S1", "course_ids": ["X"]}
    assert as_csv(None, refused(1, "m", record), refused(2, "m")) == [
        "refused_line,refused_code,refused_message,record",
        '1,unknown_course,m,"{""student_id"": ""S1"", ""course_ids"": [""X""]}"',
        "2,unknown_course,m,null",
    ]


def test_json_lines_hold_the_records_as_submitted() -> None:
    record = {"student_id": "S1", "course_ids": ["X"]}
    file = io.BytesIO()
    refusals = [refused(1, "a", record), refused(1, "b", record), refused(2, "")]
    assert write_json_lines(file, None, refusals) == (1, 1)
    assert json.loads(file.getvalue()) == record


def test_json_lines_hold_lines_that_are_no_records_as_they_were() -> None:
    lines = ['{"student_id": ', "not json", "Zo\ufdde\ufde9"]
    file = io.BytesIO()
    refusals = [refused(n, "m", None, (line,)) for n, line in enumerate(lines, 1)]
    assert write_json_lines(file, None, refusals) == (3, 0)
    assert file.getvalue() == b'{"student_id": \nnot json\nZo\xe9\n'


def test_json_lines_count_the_lines_of_a_csv_file_that_they_cannot_hold() -> None:
    file = io.BytesIO()
    assert write_json_lines(file, ["a", "b"], [refused(1, "m", None, ("x",))]) == (0, 1)
    assert file.getvalue() == b""
