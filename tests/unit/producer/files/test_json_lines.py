"""JSON Lines: a record a line; a line that is not valid JSON harms no other line."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.batches import RefusedRecord
from producer.contract.chunks import RefusedLine
from producer.fields import MAX_CHUNK_BYTES
from producer.files.describing import HEAD_BYTES, Choices
from producer.files.reader import open_stream
from producer.files.refused_lines import write_json_lines
from producer.schemas import Code, Kind
from support.source_files import Open, read, refused


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"student_id": 1, "course_ids": ["M1"]}, Kind.ENROLLMENTS),
        ({"sis_id": "S1", "name": "A"}, Kind.STUDENTS),
        ({"sis_id": "S1", "email": None}, Kind.STUDENTS),
        ({"sis_id": "M1", "title": "T\u2028\x85"}, Kind.COURSES),
        ({"sis_id": "S1", "name": "é" * HEAD_BYTES}, Kind.STUDENTS),
        ({"sis_id": "S12", "name": "é" * HEAD_BYTES}, Kind.STUDENTS),
    ],
)
def test_the_first_record_decides_the_kind(
    opened: Open, record: dict[str, Any], kind: Kind
) -> None:
    source = opened("\ufeff\n" + json.dumps(record, ensure_ascii=False) + "\n")
    assert source.kind is kind
    assert read(source) == [(record, (2,))]


FIRST = b'{"sis_id": "S1", "name": "A"}\n'
BAD_JSON = {
    "half an object": (b'{"sis_id":', "EOF"),
    "no quotes": (b"{sis_id: 1}", "key must be a string"),
    "two in a line": (b"{} {}", "trailing"),
    "NaN": (b'{"sis_id": NaN}', "expected value"),
    "Infinity": (b'{"sis_id": -Infinity}', "invalid number"),
    "deep nesting": (b"[" * 100_000, "recursion limit"),
    "an integer of 5000 digits": (b'{"sis_id": 1' + b"0" * 5_000 + b"}", "out of range"),
    "half a character": (rb'{"sis_id": "\ud800"}', "hex escape"),
    "not UTF-8": (b'{"sis_id": "\xff"}', "is not UTF-8; save"),
    "too long": (b'{"sis_id": "' + b"x" * 3 * MAX_CHUNK_BYTES + b'"}', "longer than 1048576 bytes"),
}


@pytest.mark.parametrize("spaces", [0, HEAD_BYTES], ids=["in the first lines", "later"])
@pytest.mark.parametrize(("bad", "word"), BAD_JSON.values(), ids=BAD_JSON)
def test_a_line_that_is_not_json_is_refused_and_harms_no_other(
    opened: Open, bad: bytes, word: str, spaces: int
) -> None:
    blank = b" " * spaces + b"\r\n"
    source = opened(FIRST + b"\n" + blank + bad + b"\n" + FIRST)
    entries = list(source.records())
    assert [entry.line if isinstance(entry, RefusedLine) else entry.lines for entry in entries] == [
        [1],
        4,
        [5],
    ]
    assert word in refused(source).message


def test_a_last_line_that_is_too_long_and_has_no_end_is_refused(opened: Open) -> None:
    assert refused(opened(FIRST + b"1" * (MAX_CHUNK_BYTES + 1))).line == 2


def test_a_value_that_is_not_a_record_is_left_for_the_worker_to_refuse(opened: Open) -> None:
    assert read(opened(FIRST + b"5\n[]\nnull"))[1:] == [(5, (2,)), ([], (3,)), (None, (4,))]


@pytest.mark.parametrize("encoding", [None, "auto", "utf-8", "ascii", "cp1252"])
def test_a_byte_that_cannot_be_decoded_refuses_the_first_line_too(
    opened: Open, encoding: str | None
) -> None:
    bad = b'{"sis_id": "S\x81", "name": "A"}\n'  # In cp1252 this byte is no letter either.
    source = opened(bad + FIRST, encoding=encoding)
    line, record = read(source)
    assert (source.kind, line[0], record[1]) == (Kind.STUDENTS, 1, (2,))
    assert ("is not UTF-8" in line[1]) == (encoding in (None, "utf-8"))


def test_with_a_given_kind_the_first_line_may_be_unreadable(opened: Open) -> None:
    source = opened(b"{\n" + FIRST, Kind.STUDENTS)
    assert (source.kind, refused(source).line) == (Kind.STUDENTS, 1)


@pytest.mark.parametrize("sis_id", ["nan", "NULL", "#REF!", "S\u200b1"])
def test_a_roster_refuses_what_is_probably_not_an_id(opened: Open, sis_id: str) -> None:
    bad = json.dumps({"sis_id": sis_id}).encode() + b"\n"
    found = refused(opened(FIRST + bad + FIRST))
    assert (found.line, found.field) == (2, "sis_id")
    assert found.message.endswith(("fill in the id", "by typing the id again"))


def test_an_empty_id_is_left_for_the_worker_to_refuse(opened: Open) -> None:
    assert read(opened(FIRST + b'{"sis_id": ""}\n'))[1:] == [({"sis_id": ""}, (2,))]


@pytest.mark.parametrize(
    ("records", "line"),
    [
        (['{"student_id": 7, "course_ids": ["M1"]}'], 1),
        (['{"student_id": "7", "course_ids": ["M1"]}', "", '{"course_ids": ["M1", 7]}'], 3),
        (['{"student_id": "7", "course_ids": []}', '{"student_id": 7, "course_ids": "M1"}'], 2),
    ],
)
def test_an_integer_as_an_id_is_noticed_before_anything_is_submitted(
    opened: Open, records: list[str], line: int
) -> None:
    source = opened("\n".join([*records, *records]) + "\n")
    (notice,) = source.notices
    assert f"upload.csv: line {line} has the integer 7" in notice
    assert 'write it as a string: "7"' in notice
    read(source)
    assert list(source.notices) == [notice]


def test_an_integer_after_the_first_lines_is_noticed_while_the_file_is_read(opened: Open) -> None:
    request = '{"student_id": "S1", "course_ids": ["M1"]}\n'
    many = HEAD_BYTES // len(request) + 2
    source = opened(request * many + '{"student_id": "S1", "course_ids": ["M1", 20]}\n')
    assert not source.notices
    read(source)
    (notice,) = source.notices
    assert f"line {many + 1} has the integer 20" in notice


@pytest.mark.parametrize(
    "record",
    [
        '{"student_id": "7", "course_ids": ["1", "2"]}',
        '{"student_id": 7.0, "course_ids": [true, 0, -1, 2147483648, null, [1]]}',
        '{"student_id": null, "course_ids": 7}',
    ],
)
def test_an_id_that_is_not_a_key_is_not_noticed(opened: Open, record: str) -> None:
    source = opened(record + "\n")
    read(source)
    assert not source.notices


def test_a_roster_and_a_csv_file_have_no_notices(opened: Open) -> None:
    for file in ('{"sis_id": 7, "name": "A"}\n', "student_key,course_key\n7,1\n"):
        source = opened(file)
        read(source)
        assert not source.notices


BROKEN = [
    *(line for name, (line, _) in BAD_JSON.items() if name != "too long"),
    b'{"sis_id": "NULL", "name": "Ada"}',
    b'"text',
    b"a,b\tc",
    b"nul \x00",
]


@given(st.lists(st.sampled_from(range(len(BROKEN))), min_size=1, max_size=9), st.booleans())
def test_every_line_that_is_refused_comes_back_and_is_refused_again(
    numbers: list[int], is_roster: bool
) -> None:
    lines = [BROKEN[number] for number in numbers]
    kind = Kind.STUDENTS if is_roster else Kind.ENROLLMENTS

    def refused_lines(content: bytes) -> list[RefusedLine]:
        _, records = open_stream("a file", io.BytesIO(content), Choices(kind))
        return [entry for entry in records if isinstance(entry, RefusedLine)]

    def written(refused: list[RefusedLine]) -> bytes:
        file = io.BytesIO()
        refusals = [
            RefusedRecord(
                id=1, line=r.line, code=Code.INVALID_REQUEST, message=r.message, cells=r.cells
            )
            for r in refused
        ]
        assert write_json_lines(file, None, refusals) == (len(refused), 0)
        return file.getvalue()

    refused = refused_lines(b'{"sis_id": "S1"}\n' + b"\n".join(lines) + b"\n")
    again = refused_lines(b'{"sis_id": "S1"}\n' + written(refused))
    assert written(again) == written(refused)
    assert [line.message for line in again] == [line.message for line in refused]
    expected = [line for line in lines if is_roster or b"NULL" not in line]
    assert written(refused) == b"".join(line + b"\n" for line in expected)


def test_the_message_about_json_counts_no_lines_of_its_own(opened: Open) -> None:
    line = refused(opened('{"sis_id": "S1", "name": "A"}\n{"sis_id": "S2"\n', Kind.STUDENTS))
    assert line.line == 2
    assert "not valid JSON: EOF while parsing an object at column 15" in line.message
    assert "line 1" not in line.message


def test_a_request_that_only_drops_is_one_of_enrollments(opened: Open) -> None:
    source = opened('{"student_id": "S1", "drop_course_ids": ["C1", 17]}\n')
    assert source.kind is Kind.ENROLLMENTS
    assert not source.ordered
    assert [record for record, _ in read(source)] == [
        {"student_id": "S1", "drop_course_ids": ["C1", 17]}
    ]
    (notice,) = source.notices
    assert "line 1 has the integer 17 as an id" in notice
