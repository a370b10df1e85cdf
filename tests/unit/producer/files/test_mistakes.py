"""The same mistake with other values is one group, whatever the values are."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.files.describing import Choices
from producer.files.mistakes import MAX_GROUPS, OTHERS, MistakeGroup
from producer.files.whole_check import check_whole_file
from producer.schemas import Kind


def groups_of(content: str, kind: Kind | None = None) -> tuple[MistakeGroup, ...]:
    check = check_whole_file("The file", io.BytesIO(content.encode()), Choices(kind))
    assert check.readable, check.problem
    return check.groups


ENROLLMENTS = "student_key,course_id,action,as_of\n"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters='",;|\t\r\n\0\x1a'), max_size=300)
MISTAKES = {
    "not a key": (ENROLLMENTS, "{},C,,", ["x", "003", "9" * 30, "1; not 2", " is not one of "]),
    "not an action": (ENROLLMENTS, "1,C,{},", ["delete", " is not an action; ", "drop it; not"]),
    "a missing value": ("sis_id,name\n", "{},x", ["NULL", "#REF!", "n/a", "####"]),
    "invisible": ("sis_id,name\n", "{},x", ["a\u200bb", "\u200b", "id\x07"]),
    "too long": ("sis_id,name\n", "S1,{}", ["x" * 256, "y" * 999]),
    "too many cells": ("sis_id,name\n", "S1,x,{}", ["1", "2,3", "4,5,6"]),
    "a cell of any number": ("sis_id,name\n", "{}", ["\0,x", "x,\0", "S1,y\0"]),
    "a time": ("sis_id,name,as_of\n", "S1,x,{}", ["1234", "yesterday", "1; not", "7; not 8"]),
    "not JSON": ("", "{}", ['{"a" 1}', '{"long name" 1}', '{"a, not b at column 3" 1}']),
    "an element": (
        "",
        '{{"student_id": "S1", "course_ids": [{}]}}',
        ["true", '"A", null', '"A", "B", 1.5', '"A", {"x": [1]}'],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_lines_with_the_same_mistake_are_one_group(name: str) -> None:
    header, line, values = MISTAKES[name]
    content = header + "".join(line.format(value) + "\n" for value in values)
    (group,) = groups_of(content, None if header else Kind.ENROLLMENTS)
    first = header.count("\n") + 1
    lines = tuple(range(first, first + len(values)))
    assert (group.count, group.first_lines) == (len(values), lines[:5])
    assert group.example
    assert not any(value in group.message for value in values if value[0] != " " and len(value) > 3)


def test_rows_without_a_header_have_one_group_whatever_the_number_of_their_cells() -> None:
    content = "add,student,1,C\nadd,student\nadd,student,1\nadd,student,1,C,0,0,x\n"
    (group,) = groups_of(content)
    assert group.count == 3
    assert group.message.startswith("the line does not have 4 to 6 cells; check")


def is_text(texts: list[str]) -> bool:
    """Return whether few characters are controls; a file with many is taken for a binary one."""
    return sum(char < " " for char in "".join(texts)) <= 1


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6).filter(is_text))
def test_whatever_stands_in_a_cell_does_not_make_a_group(texts: list[str]) -> None:
    header = "student_key,course_key,action\n"
    content = header + "".join(f"{text},C,\n" for text in texts)
    groups = groups_of(content)
    assert len(groups) <= 3  # It is not a key, it is empty, or it looks like a header.
    assert sum(group.count for group in groups) == len(texts)


def test_different_rules_and_different_columns_are_different_groups() -> None:
    content = "sis_id,name,as_of\n,x,\nNULL,x,\nS1,%s,\nS2,x,1800-01-01T00:00:00Z\nS3,x,no\n"
    groups = groups_of(content % ("x" * 300))
    assert [(group.field, group.count) for group in groups] == [
        ("sis_id", 1),
        ("sis_id", 1),
        ("name", 1),
        ("as_of", 1),
        ("as_of", 1),
    ]
    assert len({group.message for group in groups}) == 5


def test_the_group_of_the_most_lines_comes_first_and_says_what_is_wrong_without_a_field() -> None:
    groups = groups_of("student_id,course_id\nS1\n,C1\n,C2\n")
    assert groups[0].field == "student_id"
    assert groups[0].message == "the cell is empty; fill it in"
    assert groups[0].example == "student_id: the cell is empty; fill it in"
    assert (groups[1].field, groups[1].first_lines) == (None, (2,))


def test_a_line_that_is_cut_off_is_in_the_group_of_its_mistake() -> None:
    (group,) = groups_of("student_id,course_id\nS1\nS2")
    assert group.count == 2
    assert "cut off" not in group.message


def test_a_file_with_thousands_of_different_mistakes_has_a_bounded_number_of_groups() -> None:
    lines = [{"sis_id": "S1", f"field {number}": 1} for number in range(3 * MAX_GROUPS)]
    groups = groups_of("".join(json.dumps(line) + "\n" for line in lines), Kind.STUDENTS)
    assert len(groups) == MAX_GROUPS + 1
    assert (groups[0].message, groups[0].field) == (OTHERS, None)
    assert groups[0].count == 2 * MAX_GROUPS
    assert sum(group.count for group in groups) == len(lines)
