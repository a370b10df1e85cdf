"""A file becomes a stream of records, and whatever is wrong is said with its place and remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.delimited import read_rows
from producer.files.grouping import WINDOW
from producer.files.reader import HEAD_BYTES, FileSource, open_source
from producer.publishing.chunking import SourceRecord
from producer.schemas import MAX_CHUNK_BYTES, Kind

PAIRS = "student_sis_id,course_sis_id\n"
KEYS = "student_id,course_id\n"
Open = Callable[..., FileSource]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Writes a file and opens it."""

    def write(content: str | bytes, kind: Kind | None = None, **templates: str) -> FileSource:
        path = tmp_path / "upload.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_source(path, kind, templates)

    return write


def read(source: FileSource) -> list[Any]:
    """Entries as (record, lines), refused lines as (line, message)."""
    return [
        (entry.record, tuple(entry.lines))
        if isinstance(entry, SourceRecord)
        else (entry.line, entry.message)
        for entry in source.records()
    ]


def courses(source: FileSource) -> list[tuple[Any, list[Any], tuple[int, ...]]]:
    """The requests as (student, courses, lines), where nothing is refused."""
    return [(r["student_id"], r["course_ids"], lines) for r, lines in read(source)]


def refused(source: FileSource) -> RefusedLine:
    """The only refused line."""
    (line,) = (entry for entry in source.records() if isinstance(entry, RefusedLine))
    return line


# --- The form of a CSV file -----------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_is_read_in_each_of_its_forms(
    opened: Open, delimiter: str, end: str, encoding: str
) -> None:
    rows = [["sis_id", "title"], ["M1", "Ä"], [], ["M2", f'"a{delimiter} {end}b"'], ["M3", ""]]
    text = end.join(delimiter.join(row) for row in rows)
    source = opened(text.encode(encoding))
    assert source.kind is Kind.COURSES
    assert read(source) == [
        ({"sis_id": "M1", "title": "Ä"}, (2,)),
        ({"sis_id": "M2", "title": f"a{delimiter} {end}b"}, (4,)),
        ({"sis_id": "M3"}, (6,)),
    ]


def test_records_can_be_read_again_and_tell_how_far_they_came(opened: Open) -> None:
    source = opened(PAIRS + "S1,M1\nS2,M2\n")
    assert read(source) == read(source)
    assert source.bytes_read == source.size == source.path.stat().st_size


def test_a_request_of_a_file_keeps_its_good_courses(opened: Open) -> None:
    ((record, _),) = read(opened(PAIRS + "S1,M1\n"))
    assert record == {"student_id": "S1", "course_ids": ["M1"], "atomic": False}


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
def test_the_header_tells_the_kind(opened: Open, header: str, kind: Kind) -> None:
    assert opened(header + "\n").kind is kind


def test_a_given_kind_decides_where_the_header_does_not_tell(opened: Open) -> None:
    assert read(opened("sis_id\nS1\n", Kind.COURSES)) == [({"sis_id": "S1"}, (2,))]


def test_columns_may_be_mixed_between_keys_and_sis_ids(opened: Open) -> None:
    source = opened("course_id,x,student_sis_id\n 7 ,,4711\n")
    assert courses(source) == [("4711", [7], (2,))]


def test_a_template_makes_a_column_of_several(opened: Open) -> None:
    source = opened(
        "module,term,id_student\nAAA,2014J,5\n",
        student_sis_id="{id_student}",
        course_sis_id="100%-{module}-{term}",
    )
    assert courses(source) == [("5", ["100%-AAA-2014J"], (2,))]


def test_a_doubled_column_that_nobody_uses_is_no_matter(opened: Open) -> None:
    assert read(opened("sis_id,x,x,title\nM1,,,T\n")) == [({"sis_id": "M1", "title": "T"}, (2,))]


# --- Files that cannot be read at all -------------------------------------------------------

HEADERS: dict[str, tuple[str | bytes, dict[str, Any], list[str]]] = {
    "empty": ("", {}, ["is empty", "begins with a header line"]),
    "blank": (" \n\r\n", {}, ["is empty", "begins with a header line"]),
    "a mark and nothing else": (b"\xef\xbb\xbf", {}, ["is empty"]),
    "binary": (b"PK\x03\x04\x00\x00", {}, ["binary", "export it as CSV or JSON Lines in UTF-8"]),
    "UTF-16": (PAIRS.encode("utf-16"), {}, ["binary", "UTF-8"]),
    "Latin-1": ("sis_id,name\nS1,\xe9\n".encode("latin-1"), {}, ["line 2", "not UTF-8", "save"]),
    "nothing known": ("a,b\n", {}, ["first line does not tell", "--kind", "--map"]),
    "only a SIS id": ("sis_id\n", {}, ["first line does not tell", "--kind"]),
    "no course": (
        "student_id\n",
        {},
        ["enrollments need a column course_id or course_sis_id", "--map course_sis_id='{column}'"],
    ),
    "no student": ("course_id\n", {}, ["student_id or student_sis_id", "--map student_sis_id="]),
    "no SIS id": ("name\n", {}, ["students need a column sis_id", "--map sis_id="]),
    "two students": (
        "student_id,student_sis_id,course_id\n",
        {},
        ["has both student_id and student_sis_id", "remove one"],
    ),
    "two courses": (
        KEYS,
        {"course_sis_id": "{course_id}"},
        ["has both course_id and course_sis_id", "remove one"],
    ),
    "two kinds": (
        "sis_id,name,title\n",
        {},
        ["title is no column of students", "they have sis_id, name, email"],
    ),
    "another kind": (
        "sis_id,name\n",
        {"kind": Kind.COURSES},
        ["name is no column of courses", "they have sis_id, title"],
    ),
    "doubled": ("student_id,course_id,course_id\n", {}, ["course_id", "twice", "rename one"]),
    "doubled in a template": (
        "a,a,sis_id\n",
        {"title": "{a}"},
        ["['a'] twice", "rename one"],
    ),
    "a template of a column that is not there": (
        "code,b\n",
        {"title": "{cod}"},
        ["--map title={cod} has no column 'cod'", "the columns are: code, b"],
    ),
    "an empty brace": ("code,b\n", {"title": "{}"}, ["has no column ''", "columns are: code, b"]),
    "an unpaired opening brace": ("a,b\n", {"title": "{a"}, ["unpaired brace", "are: a, b"]),
    "an unpaired closing brace": ("a,b\n", {"title": "{a}}"}, ["unpaired brace", "are: a, b"]),
    "an open quote": (
        'student_sis_id,"course_sis_id\nS1,M1\n',
        {},
        ["line 1", "header cannot be read", "close its quotes"],
    ),
    "line ends of old": (
        "student_sis_id,course_sis_id\rS1,M1\r",
        {},
        ["line 1", "save the file with the line ends of Unix or Windows"],
    ),
    "JSON with a template": ('{"sis_id": "S1"}', {"name": "{x}"}, ["--map is for CSV"]),
    "no JSON": ('{"sis_id": \n', {}, ["first line is no JSON", "one record in each line"]),
    "JSON that does not tell": ('{"sis_id": "S1"}', {}, ["first line does not tell", "--kind"]),
}


@pytest.mark.parametrize(("content", "options", "words"), HEADERS.values(), ids=HEADERS)
def test_an_unreadable_file_is_named_with_the_place_and_the_remedy(
    opened: Open, content: str | bytes, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(content, **options)
    for word in ("upload.csv", *words):
        assert word in str(caught.value)


def test_a_template_for_a_column_that_we_do_not_have_lists_ours(opened: Open) -> None:
    with pytest.raises(UnreadableFile, match=r"--map pupil=….*choose from course_id, .*title"):
        opened(PAIRS, pupil="{student_sis_id}")


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"none\.csv cannot be read: No such file"):
        open_source(tmp_path / "none.csv", None, {})
    with pytest.raises(UnreadableFile, match="is a directory; name the files in it"):
        open_source(tmp_path, None, {})


# --- Lines that are refused while the others are read ---------------------------------------

LONG = "9" * 5_000
BAD_LINES: dict[str, tuple[str, str, str | None, list[str]]] = {
    "too few cells": (PAIRS, "S1", None, ["has 1 cells", "the header has 2"]),
    "too many cells": (PAIRS, "S1,M1,M2", None, ["has 3 cells", "the header has 2"]),
    "blanks": (PAIRS, "  ", None, ["has 1 cells"]),
    "no student": (PAIRS, ",M1", "student_sis_id", ["is empty"]),
    "a blank course": (PAIRS, "S1,  ", "course_sis_id", ["is empty"]),
    "a long SIS id": (PAIRS, "S1," + "x" * 256, "course_sis_id", ["256 characters", "255"]),
    "NUL": (PAIRS, "S1,M\0", "course_sis_id", ["NUL"]),
    "not UTF-8": (PAIRS, "S1,M\udcff", "course_sis_id", ["not UTF-8", "save the file"]),
    "a name for a key": (
        KEYS,
        "S1,7",
        "student_id",
        ["'S1' is no integer from 1 to 2147483647", "into the column student_sis_id"],
    ),
    "a course's name for its key": (KEYS, "7,M1", "course_id", ["into the column course_sis_id"]),
    "no key": (KEYS, ",7", "student_id", ["'' is no integer"]),
    "zero": (KEYS, "0,7", "student_id", ["'0' is no integer"]),
    "a negative key": (KEYS, "-1,7", "student_id", ["'-1' is no integer"]),
    "a fraction": (KEYS, "1.0,7", "student_id", ["'1.0' is no integer"]),
    "a key too large": (KEYS, "2147483648,7", "student_id", ["'2147483648' is no integer"]),
    "digits of another script": (KEYS, "٣,7", "student_id", [r"'\u0663' is no integer"]),
    "a huge key": (KEYS, f"{LONG},7", "student_id", [f"'{LONG[:60]}' is no integer"]),
    "a huge key behind zeros": (KEYS, f"00000000001{LONG},7", "student_id", ["is no integer"]),
}


@pytest.mark.parametrize(("header", "bad", "field", "words"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_refused_with_its_column_and_harms_no_other(
    opened: Open, header: str, bad: str, field: str | None, words: list[str]
) -> None:
    blank = "\n" * HEAD_BYTES  # What is wrong in the head is wrong with the file.
    content = f"{header}1,2\n{blank}{bad}\n3,4\n".encode("utf-8", "surrogateescape")
    entries = list(opened(content).records())
    (line,) = (entry for entry in entries if isinstance(entry, RefusedLine))
    assert (line.line, line.field) == (3 + HEAD_BYTES, field)
    for word in words:
        assert word in line.message
    good = [entry.lines for entry in entries if isinstance(entry, SourceRecord)]
    assert good == [[2], [4 + HEAD_BYTES]]


def test_a_key_at_the_bounds_is_taken(opened: Open) -> None:
    assert courses(opened(KEYS + "1,2147483647\n")) == [(1, [2147483647], (2,))]


def test_a_line_is_counted_from_1_also_behind_a_cell_of_several_lines(opened: Open) -> None:
    source = opened('sis_id,title,"a\nnote"\nM1,"two\r\n\r\nlines",\nM2,,\n,,\n')
    assert read(source) == [
        ({"sis_id": "M1", "title": "two\r\n\r\nlines"}, (3,)),
        ({"sis_id": "M2"}, (6,)),
        (7, "sis_id: is empty"),
    ]


@pytest.mark.parametrize("bad", ['S2,"M2', '"S2,M2', 'S2,"M2\nS3,M3\nS4,M4', 'S2,M2\nS3,"'])
def test_a_quote_left_open_is_told_and_not_taken_for_a_long_name(opened: Open, bad: str) -> None:
    source = opened(f"{PAIRS}S1,M1\n{bad}")
    line = refused(source)
    assert line.message == "a quote is left open; nothing after this line was read"
    assert line.line == 3 + bad[: bad.index('"')].count("\n")
    entries = [entry for entry in source.records() if isinstance(entry, SourceRecord)]
    assert [n for entry in entries for n in entry.lines] == list(range(2, line.line))


def test_a_quote_left_open_in_a_large_file_ends_the_reading(opened: Open) -> None:
    line = refused(opened(PAIRS + 'S1,M1\n"' + "S2,M2\n" * (MAX_CHUNK_BYTES // 5)))
    assert line.line == 3
    assert "a quote may be left open; nothing after this line was read" in line.message


# --- Pairs become requests ------------------------------------------------------------------


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


def test_pairs_far_apart_are_not_held_back_for_one_another(opened: Open) -> None:
    source = opened(PAIRS + "S1,M1\n" * WINDOW + "S1,M2\n")
    assert courses(source)[-1] == ("S1", ["M2"], (2 + WINDOW,))
    assert len(courses(source)) == WINDOW + 1


cells = st.sampled_from(["S1", "S2", " S3 ", "4711", '"a\n""b"', "", "x" * 256])
lines_of_a_file = st.lists(st.lists(cells, max_size=3).map(tuple), max_size=40)


@given(lines_of_a_file)
# Each run writes the file anew, and timings are not asserted.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_is_accounted_for_exactly_once(
    opened: Open, rows: list[tuple[str, ...]]
) -> None:
    text, expected, bad = PAIRS, [], []
    for row in rows:
        line = text.count("\n") + 1
        text += ",".join(row) + "\n"
        values = [cell.strip('"\n ').replace('""', '"') for cell in row]
        if len(row) == 2 and all(1 <= len(value) <= 255 for value in values):
            expected.append((line, *values))
        elif row not in ((), ("",)):  # A blank line holds nothing.
            bad.append(line)
    entries = list(opened(text).records())
    pairs = [
        (line, entry.record["student_id"], course)
        for entry in entries
        if isinstance(entry, SourceRecord)
        for line, course in zip(entry.lines, entry.record["course_ids"], strict=True)
    ]
    assert sorted(pairs) == expected
    assert [entry.line for entry in entries if isinstance(entry, RefusedLine)] == bad


# --- JSON Lines -----------------------------------------------------------------------------


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
def test_the_first_record_tells_the_kind(opened: Open, record: dict[str, Any], kind: Kind) -> None:
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
    "not UTF-8": (b'{"sis_id": "\xff"}', "unicode"),
    "too long": (b'{"sis_id": "' + b"x" * 3 * MAX_CHUNK_BYTES + b'"}', "longer than 1048576 bytes"),
}


@pytest.mark.parametrize(("bad", "word"), BAD_JSON.values(), ids=BAD_JSON)
def test_a_line_that_is_no_json_is_refused_and_harms_no_other(
    opened: Open, bad: bytes, word: str
) -> None:
    blank = b" " * HEAD_BYTES + b"\r\n"  # What is wrong in the head is wrong with the file.
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


def test_a_value_that_is_no_record_is_left_to_the_worker_to_refuse(opened: Open) -> None:
    assert read(opened(FIRST + b"5\n[]\nnull"))[1:] == [(5, (2,)), ([], (3,)), (None, (4,))]


def test_a_given_kind_needs_no_readable_first_line(opened: Open) -> None:
    source = opened(b"{\n" + FIRST, Kind.STUDENTS)
    assert (source.kind, refused(source).line) == (Kind.STUDENTS, 1)


def test_a_reader_that_outlives_its_file_ends_without_an_error(tmp_path: Path) -> None:
    path = tmp_path / "left.csv"
    path.write_text("student_sis_id,course_sis_id\nS1,C1\nS2,C2\n")
    with path.open("rb") as file:
        rows: Any = read_rows(file, ",", 2)
        assert next(rows) == (2, ["S1", "C1"])
    rows.close()
