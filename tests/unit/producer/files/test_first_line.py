"""Every message about the first line shows that line, and says what it looks like."""

from typing import Any

import pytest

from producer.errors import UnreadableFile
from producer.schemas import Kind
from support.source_files import Open, courses, read

NO_HEADER = "looks like data; add a line with the names of the columns above it"
TITLE = "looks like a title above the header"
KEY_VALUE = "looks like text of the form `key: value`"
LINES: dict[str, tuple[str, str]] = {
    "no header": ("S1,ALG-1\nS2,ALG-1\n", NO_HEADER),
    "no header, no digits": ("ada,LOGIC\nben,LOGIC\n", NO_HEADER),
    "no header, addresses": ("ada@example.edu;LOGIC\n", NO_HEADER),
    "a title": ("Roster, autumn\n\nsis_id,name\nS1,Ada\n", "line 3: 'sis_id,name'; remove the"),
    "a title with cells": ("Roster,,\nsis_id,name,note\n", "line 2: 'sis_id,name,note'"),
    "a title of an unknown table": ("Roster\na,b\n", TITLE),
    "a title in a row of cells": ("Fall 2026,,\n,,\nNo,Class,Term\n17,A,1\n", TITLE),
    "a quoted title in a row": ('"Fall 2026, all";;\nNo;Class;Term\n', TITLE),
    "a title far above": ("Roster\n" + "x\n" * 15 + "sis_id;name\n", "line 17: 'sis_id;name'"),
    "a comment": ("# exported by SIS\nsis_id,name\n", "looks like a comment; remove it"),
    "a comment in SQL": ("-- exported\nsis_id,name\n", "looks like a comment"),
    "a comment in C": ("// exported, today\nsis_id,name\n", "looks like a comment"),
    "a JSON array": ('[{"sis_id": "S1"}]', "looks like a JSON array; write one JSON object on"),
    "a JSON array on lines": ('[\n  {"sis_id": "S1"}\n]', "looks like a JSON array"),
    "HTML inside": ("<div>\n<table>\n", "looks like HTML or XML"),
    "a drawn table": ("+----+----+\n| id | n |\n", "looks like a drawn table"),
    "SQL": ("INSERT INTO students VALUES (1)\n", "looks like SQL"),
    "an error message": (
        "ORA-00942: table or view does not exist\n",
        "looks like an error message",
    ),
    "keys and values": ("Course: LOGIC-1\nStudent: S1\n", KEY_VALUE),
    "keys and values with commas": ("Name: Example, Ada\nCourse: Logic, one\n", KEY_VALUE),
    "YAML": ("students:\n- sis_id: S1\n", KEY_VALUE),
    "settings": ("[students]\nid = S1\n", KEY_VALUE),
    "a calendar": ("BEGIN:VCALENDAR\nVERSION:2.0\n", KEY_VALUE),
    "spaces": ("sis id     full name\nS1         Ada\n", "separated by spaces"),
    "colons": ("student_sis_id:course_sis_id\nS1:ALG-1\n", "separated by ':'"),
    "carets": ("student_sis_id^course_sis_id^x\n", "separated by '^'"),
    "tabs that became spaces": ("student_sis_id  course_sis_id\n", "separated by '  '"),
    "a line in quotes": ('"student_sis_id,course_sis_id"\n"S1,C1"\n', "one cell in quotes"),
    "an open quote": ('sis_id,"name\nS1,Ada\n', "a quote that is not closed"),
}


@pytest.mark.parametrize("kind", [None, Kind.ENROLLMENTS], ids=["any kind", "enrollments"])
@pytest.mark.parametrize(("text", "sentence"), LINES.values(), ids=LINES)
def test_a_first_line_that_is_not_a_header_is_shown(
    opened: Open, text: str, sentence: str, kind: Kind | None
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(text, kind)
    message = str(caught.value)
    assert repr(text.splitlines()[0]) in message
    assert sentence in message
    assert message.count(repr(text.splitlines()[0])) == 1


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("student_sis_id,note 1\n", {}),
        ("course_sis_id,Term: year\n", {}),
        ("sis_id,sis_id,name\n", {}),
        ("sis_id,name\n", {"kind": Kind.ENROLLMENTS}),
        ("sis_id,code\n", {"title": "{no}"}),
    ],
)
def test_a_header_that_lacks_something_is_shown_and_called_nothing_else(
    opened: Open, text: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(text, **options)
    assert str(caught.value).endswith(f"The first line is {text.strip()!r}.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html>\n<html>", ["is a web page", "'<!DOCTYPE html>'"]),
        ("\n  <HTML lang=de>", ["is a web page", "'<HTML lang=de>'"]),
        ("<table><tr>", ["is a web page"]),
        ('<?xml version="1.0"?>\n<a/>', ["is XML", "'<?xml version=\"1.0\"?>'"]),
        ("{\\rtf1\\ansi", ["a text document (RTF)"]),
        ("{\n", ["not valid JSON: '{'", "a JSON document on several lines"]),
        ('{"sis_id": "S1",\n"name": "x"}', ['\'{"sis_id": "S1",\'', "on several lines"]),
        ("{'sis_id': 'S1'}\n", ["JSON needs double quotes"]),
        ('{"students": [{"sis_id": "S1"}]}', ["one document that holds a list of records"]),
        ("", ["is empty; submit a CSV file with a header line"]),
        ("\ufeff\n \n", ["is empty"]),
        (",,,\n;;", ["is empty, except for separators"]),
        ("sep=,\n", ["is empty, except for separators"]),
        ("sep=;", ["is empty, except for separators"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_that_is_not_a_table_is_named(
    opened: Open, text: str, words: list[str], encoding: str
) -> None:
    if encoding != "utf-8" and text.startswith("{\\rtf"):
        return  # Such documents are ASCII.
    with pytest.raises(UnreadableFile) as caught:
        opened(text.encode(encoding))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        (f"S1\x1b[31m,\u202e1{'x' * 99}", rf"'S1\x1b[31m,\u202e1{'x' * 99}'"),
        ("S1\u200b,C1", r"'S1\u200b,C1'"),
        ("9" * 500, f"'{'9' * 120}…'"),
        ("Ada Müller,☃1", "'Ada Müller,☃1'"),
    ],
)
def test_the_first_line_is_escaped_and_shortened(opened: Open, first: str, shown: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(f"{first}\n")
    assert shown in str(caught.value)
    assert str(caught.value).isprintable()


def test_blank_lines_above_the_header_are_passed_over(opened: Open) -> None:
    for above in ("\n", "\r\n\r\n", ",,,\n , \n", "\ufeff\n", "sep=,\r\n\r\n", "SEP=,\n"):
        source = opened(f"{above}student_sis_id,course_sis_id\nS1,C1\n")
        line = above.count("\n") + 2
        assert courses(source) == [("S1", ["C1"], (line,))]


def test_the_line_of_a_header_below_a_title_is_counted_from_the_top(opened: Open) -> None:
    with pytest.raises(UnreadableFile, match="to be line 6: 'sis_id,name';"):
        opened("\n,,\nRoster\n\n2026\nsis_id,name\n")


def test_a_file_with_nothing_but_a_header_is_noticed(opened: Open) -> None:
    for text in (
        "sis_id,name",
        "sis_id,name\n",
        "sis_id,name\r\n\r\n",
        '"sis_id","na\nme",title\n',
    ):
        source = opened(text, Kind.STUDENTS)
        assert read(source) == []
        (notice,) = source.notices
        assert notice.endswith("has a header but no rows.")
    assert not opened("sis_id,name\nS1,\n").notices


@pytest.mark.parametrize(("named", "used"), [(";", ","), (",", "\t"), ("^", ";")])
def test_a_line_that_names_the_wrong_delimiter_is_named(
    opened: Open, named: str, used: str
) -> None:
    header, row = used.join(("student_id", "course_id")), used.join(("S1", "C1"))
    with pytest.raises(UnreadableFile) as caught:
        opened(f"sep={named}\n{header}\n{row}\n")
    words = f"names {named!r}, but its cells seem to be separated by {used!r}; correct that line"
    assert words in str(caught.value)
    assert "title" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "has_cause"), [("S1,C1\nS2,C1\n", True), ("Nr,Kurs\nA,B\n", False)]
)
def test_the_general_advice_follows_a_cause_as_an_alternative(
    opened: Open, content: str, has_cause: bool
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(content)
    assert ("Otherwise, choose the kind" in str(caught.value)) is has_cause
    assert ("Choose the kind" in str(caught.value)) is not has_cause


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
@pytest.mark.parametrize("header", ["Schüler;Kurs", "student_id;Kurs;Größe"])
def test_a_header_in_another_encoding_is_said_to_be_in_it(
    opened: Open, header: str, encoding: str
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        opened(f"{header}\n1;2;3\n".encode(encoding))
    is_wrong = encoding != "utf-8"
    assert ("It has letters that are not in UTF-8" in str(caught.value)) == is_wrong
    assert ("encoding" in caught.value.options) == is_wrong


def test_another_column_may_have_any_name(opened: Open) -> None:
    assert courses(opened("student_id;course_id;Größe\nS;C;x\n".encode("cp1252")))
