"""A file is opened as a stream of records, or refused with the place and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from producer.errors import UnreadableFile
from producer.files.reader import open_source
from producer.schemas import Kind
from support.source_files import KEYS, PAIRS, Open, read


def test_records_can_be_read_twice_and_the_bytes_read_are_counted(opened: Open) -> None:
    source = opened(PAIRS + "S1,M1\nS2,M2\n")
    assert read(source) == read(source)
    assert source.bytes_read == source.size == source.path.stat().st_size


HEADERS: dict[str, tuple[str | bytes, dict[str, Any], list[str]]] = {
    "empty": ("", {}, ["is empty", "with a header line"]),
    "blank": (" \n\r\n", {}, ["is empty", "with a header line"]),
    "a mark and nothing else": (b"\xef\xbb\xbf", {}, ["is empty"]),
    "binary": (b"PK\x03\x04\x00\x00", {}, ["binary", "export it as CSV or JSON Lines in UTF-8"]),
    "UTF-16": (PAIRS.encode("utf-16"), {}, ["binary", "UTF-8"]),
    "Latin-1": ("sis_id,name\nS1,\xe9\n".encode("latin-1"), {}, ["line 2", "not UTF-8", "save"]),
    "nothing known": ("a,b\n", {}, ["first line does not show", "the kind", "also map them"]),
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
        KEYS,
        {"course_sis_id": "{course_id}"},
        ["has both course_id and course_sis_id", "remove one"],
    ),
    "two kinds": (
        "sis_id,name,title\n",
        {},
        ["title is not a column of students", "whose columns are sis_id, name, email"],
    ),
    "another kind": (
        "sis_id,name\n",
        {"kind": Kind.COURSES},
        ["name is not a column of courses", "whose columns are sis_id, title"],
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
    "an open quote": (
        'student_sis_id,"course_sis_id\nS1,M1\n',
        {},
        ["line 1", "header cannot be read", "Close every quote"],
    ),
    "line ends of old": (
        "student_sis_id,course_sis_id\rS1,M1\r",
        {},
        ["line 1", "save the file with Unix or Windows line endings"],
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
        ("another kind", ("kind",)),
        ("JSON with a template", ("map",)),
        ("no JSON", ("kind",)),
        ("Latin-1", ()),
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
