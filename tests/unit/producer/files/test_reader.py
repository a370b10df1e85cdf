"""A file is opened as a stream of records, or refused with the place and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from producer.errors import UnreadableFile
from producer.files.reader import open_source
from producer.schemas import Kind
from support.source_files import PAIRS, Open, read


def test_records_can_be_read_twice_and_the_bytes_read_are_counted(opened: Open) -> None:
    source = opened(PAIRS + "S1,M1\nS2,M2\n")
    assert read(source) == read(source)
    assert source.bytes_read == source.size == source.path.stat().st_size


HEADERS: dict[str, tuple[str | bytes, dict[str, Any], list[str]]] = {
    "empty": ("", {}, ["is empty", "with a header line"]),
    "blank": (" \n\r\n", {}, ["is empty", "with a header line"]),
    "a mark and nothing else": (b"\xef\xbb\xbf", {}, ["is empty"]),
    "binary": (bytes(range(256)), {}, ["binary", "export it as CSV or JSON Lines in UTF-8"]),
    "half of a workbook": (b"PK\x03\x04\x00\x00", {}, ["Excel workbook", "incomplete", "as CSV"]),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1", {}, ["Excel", "save it as CSV"]),
    "half of a gzip file": (b"\x1f\x8b\x08\x00", {}, ["is incomplete", "ends too early", "again"]),
    "PDF": (b"%PDF-1.7\n", {}, ["PDF", "export the data as CSV"]),
    "HTML": ("<!DOCTYPE html>\n<html>", {}, ["a web page", "sign-in page"]),
    "a title": ("Roster 2026\nsis_id,name\n", {}, ["'Roster 2026'", "a title above the header"]),
    "a comment": ("# a,b\nsis_id,name\n", {}, ["'# a,b'", "a comment; remove it"]),
    "no header": ("S1,ALG-1\n", {}, ["'S1,ALG-1'", "looks like data; add a line"]),
    "a JSON array": ('[{"sis_id": "S1"}]', {}, ["JSON array", "one JSON object on each line"]),
    "a thousand columns": (",".join(f"c{n}" for n in range(1001)), {}, ["1,001 columns", "1,000"]),
    "a template without a column": (
        "a,b\n",
        {"name": "First Last"},
        ["name=First Last", "names no column; write {First Last} if that is one"],
    ),
    "nothing known": ("a,b\n", {}, ["first line does not show", "the kind", "map the columns"]),
    "only a SIS id": ("sis_id\n", {}, ["first line does not show", "the kind"]),
    "no course": (
        "student_id\n",
        {},
        ["enrollments need a column course_id or course_sis_id", "example course_sis_id={column}."],
    ),
    "no student": ("course_id\n", {}, ["student_id or student_sis_id", "map another column"]),
    "no SIS id": ("name\n", {}, ["students need a column sis_id", "map another column"]),
    "two students": (
        "student_id,student_sis_id,course_id\n",
        {},
        ["has both student_id and student_sis_id", "remove one"],
    ),
    "two courses": (
        "student_id,course_id,course_sis_id\n",
        {},
        ["has both course_id and course_sis_id", "remove one, or map the one that counts"],
    ),
    "a key and an id of the student": (
        "student_id,student_key,course_id\n",
        {},
        [
            "has both student_id and student_key",
            "student_id holds SIS ids, student_key holds our keys",
            "map the one that counts, for example student_id={student_id}",
        ],
    ),
    "a key and an id of the course": (
        "student_id,course_sis_id,Course_KEY\n",
        {},
        ["has both course_sis_id and course_key", "remove one"],
    ),
    "three columns for the student": (
        "student_id,student_sis_id,student_key,course_id\n",
        {"kind": Kind.ENROLLMENTS},
        ["has student_id, student_sis_id and student_key"],
    ),
    "a mapping beside another": (
        "student_id,course_id\n",
        {"student_key": "{student_id}", "student_sis_id": "{student_id}"},
        ["has student_id, student_sis_id and student_key"],
    ),
    "a mapped roster without its id": (
        "student_id,course_id,full\n",
        {"name": "{full}"},
        ["students need a column sis_id"],
    ),
    "a roster under another name": (
        "student_id,name\n",
        {},
        ["need a column course_id or", "If the file is a roster, map sis_id={student_id} instead"],
    ),
    "a roster without its id": (
        "course_id,title\n",
        {"kind": Kind.COURSES},
        ["courses need a column sis_id", "for example sis_id={course_id}."],
    ),
    "two kinds": ("sis_id,name,title\n", {}, ["'sis_id,name,title'", "the kind"]),
    "another kind": (
        "sis_id,name\n",
        {"kind": Kind.ENROLLMENTS},
        ["enrollments need a column student_id or student_sis_id"],
    ),
    "doubled": (
        "student_id,course_id,course_id\n",
        {},
        ["more than once in the header: course_id.", "Rename"],
    ),
    "doubled in a template": (
        "a,a,sis_id\n",
        {"title": "{a}"},
        ["more than once in the header: a.", "Rename"],
    ),
    "a template of a column that is not there": (
        "code,b\n",
        {"title": "{cod}"},
        ["mapping title={cod}: the file has no column 'cod'", "columns are: code, b"],
    ),
    "an empty brace": ("code,b\n", {"title": "{}"}, ["has no column ''", "columns are: code, b"]),
    "an unpaired opening brace": ("a,b\n", {"title": "{a"}, ["unmatched brace", "are: a, b"]),
    "an unpaired closing brace": ("a,b\n", {"title": "{a}}"}, ["unmatched brace", "are: a, b"]),
    "NUL in a template": ("a,b\n", {"title": "\0{a}"}, ["template holds NUL or bytes"]),
    "a bad byte in a template": ("a,b\n", {"title": "\udcff{a}"}, ["template holds NUL or bytes"]),
    "an open quote": (
        'student_sis_id,"course_sis_id\nS1,M1\n',
        {},
        ["first line", "has a quote that is not closed; close it, or remove it"],
    ),
    "JSON with a template": (
        '{"sis_id": "S1"}',
        {"name": "{x}"},
        ["only the columns of a CSV file can be mapped"],
    ),
    "no JSON": ('{"sis_id": \n', {}, ["first line is not valid JSON", "one record per line"]),
    "JSON that does not tell": ('{"sis_id": "S1"}', {}, ["first line does not show", "the kind"]),
}


@pytest.mark.parametrize(("content", "options", "words"), HEADERS.values(), ids=HEADERS)
def test_an_unreadable_file_is_reported_with_the_line_and_the_remedy(
    opened: Open, content: str | bytes, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(content, **options)
    for word in ("upload.csv", *words):
        assert word in str(caught.value)
    # The message is for the command line, for HTTP and for the page.
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nothing known", ("kind", "map")),
        ("no course", ("map",)),
        ("a template of a column that is not there", ("map",)),
        ("another kind", ("map",)),
        ("JSON with a template", ("map",)),
        ("no JSON", ("kind",)),
        ("binary", ()),
    ],
)
def test_an_error_names_the_options_that_may_help(
    opened: Open, name: str, options: tuple[str, ...]
) -> None:
    content, given, _ = HEADERS[name]
    with pytest.raises(UnreadableFile) as caught:
        opened(content, **given)
    assert caught.value.options == options


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"none\.csv cannot be read: No such file"):
        open_source(tmp_path / "none.csv", None, {})
    with pytest.raises(UnreadableFile, match="is a directory; name the files in it"):
        open_source(tmp_path, None, {})


def test_an_unknown_encoding_is_named(opened: Open) -> None:
    for name in ("utf-9", "base64"):
        with pytest.raises(UnreadableFile, match=f"no encoding '{name}'; use for example utf-8"):
            opened(PAIRS, encoding=name)


TABLE = "sis_id\tname\nS1\tZoë O\u2019Neil\nS2\t☃ Müller\n"
WESTERN = TABLE.replace("☃", "€")


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (TABLE.encode("utf-8-sig"), None),
        (TABLE.encode("utf-16"), None),
        (TABLE.encode("utf-16-le"), None),
        (TABLE.encode("utf-16-be"), None),
        (b"\xfe\xff" + TABLE.encode("utf-16-be"), None),
        (TABLE.encode("utf-32"), None),
        (TABLE.replace("\n", "\r").encode(), None),
        (TABLE.replace("\n", "\r\n").encode("utf-16"), None),
        (TABLE.replace("\n", "\r").encode("utf-16"), None),
        (TABLE.encode(), "utf8"),
        (WESTERN.encode("cp1252"), "cp1252"),
        (TABLE.encode("utf-16-be"), "UTF-16BE"),
    ],
)
def test_text_is_read_in_any_encoding_and_with_any_line_ends(
    opened: Open, raw: bytes, encoding: str | None
) -> None:
    second = "€ Müller" if encoding == "cp1252" else "☃ Müller"
    assert read(opened(raw, encoding=encoding)) == [
        ({"sis_id": "S1", "name": "Zoë O\u2019Neil"}, (2,)),
        ({"sis_id": "S2", "name": second}, (3,)),
    ]


@pytest.mark.parametrize("before", [0, 70_000], ids=["in the head", "later"])
@pytest.mark.parametrize("text", ["utf-8", "utf-16"])
def test_what_cannot_be_decoded_refuses_its_line_wherever_it_is(
    opened: Open, before: int, text: str
) -> None:
    rows = [f"S{n:06d},{'x' * 60}" for n in range(before // 70)]
    bad = {"utf-8": b"B,Jos\xe9", "utf-16": "B,Jos".encode("utf-16-le") + b"\x00\xd8"}[text]
    encoding = "utf-16-le" if text == "utf-16" else "utf-8"
    lines = ["sis_id,name", *rows]
    raw = "\n".join([*lines, ""]).encode(encoding) + bad + "\nC,Carol\n".encode(encoding)
    *_, refusal, last = read(opened(raw))
    assert refusal[0] == len(lines) + 1
    assert f"cell 2 is not {'UTF-8' if text == 'utf-8' else 'valid utf-16-le'};" in refusal[1]
    assert last == ({"sis_id": "C", "name": "Carol"}, (len(lines) + 2,))


def test_a_message_can_be_printed_and_sent_whatever_the_header_holds(opened: Open) -> None:
    header = b"student_id,course_id,n\xffte,\x1b[31m,\xc2\x85\n"
    with pytest.raises(UnreadableFile) as caught:
        opened(header + b"S1,C1\n" * 100, student_id="{pupil}")
    assert "columns are: student_id, course_id, n" in str(caught.value)
    assert str(caught.value).isprintable()
