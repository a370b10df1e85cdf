"""Chunks count their rows, and refuse what does not fit together."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.chunks import Chunk, RefusedLine, Tally, count_rows
from producer.contract.explain import parse_record
from producer.fields import MAX_CHUNK_RECORDS, MAX_COURSES
from producer.schemas import StudentEnrollmentRequest
from support.contract import problems


@pytest.mark.parametrize(
    ("record", "rows"),
    [
        ({"student_id": 1, "course_ids": ["A", "B"]}, 2),
        ({"course_ids": ["A", "A", "B"]}, 2),
        ({"course_ids": (1, "1")}, 2),
        ({"course_ids": [True, "True", {}, []]}, 4),
        ({"drop_course_ids": ["A", "A", "B"]}, 2),
        ({"course_ids": ["A", "B"], "drop_course_ids": ["C"]}, 3),
        ({"course_ids": ["A"], "drop_course_ids": ["A"]}, 2),
        ({"course_ids": [], "drop_course_ids": ["A"]}, 1),
        ({"course_ids": "AB", "drop_course_ids": ["A", "B"]}, 2),
        ({"course_ids": ["A", "B"], "drop_course_ids": None}, 2),
        ({"course_ids": [], "drop_course_ids": []}, 1),
        ({"course_ids": []}, 1),
        ({"course_ids": "AB"}, 1),
        ({"course_ids": None}, 1),
        ({"sis_id": "S1"}, 1),
        (None, 1),
        ([1, 2, 3], 1),
    ],
)
def test_a_request_counts_its_distinct_courses_and_all_else_counts_one(
    record: Any, rows: int
) -> None:
    assert count_rows(record) == rows


COURSES = st.lists(st.sampled_from([1, 2, "1", "2", "A"]), max_size=6)


@given(COURSES, COURSES)
def test_a_request_counts_the_same_as_json_and_as_a_model(
    enroll: list[int | str], drop: list[int | str]
) -> None:
    record = {"student_id": 1, "course_ids": enroll, "drop_course_ids": drop}
    request, _ = parse_record(StudentEnrollmentRequest, record)
    if request is not None:
        assert count_rows(request) == count_rows(record) == len(set(enroll)) + len(set(drop))


class Colliding(int):
    """An integer that has the same hash as all the others: a multiple of 2**61 - 1, in JSON."""

    comparisons = 0

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        Colliding.comparisons += 1
        return int(self) == other


@given(courses=st.lists(st.integers(0, 3000), max_size=2000), form=st.sampled_from([list, tuple]))
def test_counting_courses_takes_time_in_proportion_to_their_number(
    courses: list[int], form: Callable[[Any], Any]
) -> None:
    Colliding.comparisons = 0
    rows = count_rows({"course_ids": form(map(Colliding, courses))})
    assert rows == max(1, len(set(courses)))
    assert Colliding.comparisons <= MAX_COURSES**2


def chunk(**fields: Any) -> dict[str, Any]:
    return {"batch_id": "b", "number": 0, **fields}


PAIR = {"student_id": 1, "course_ids": ["A", "B"]}


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        ([], []),
        ([PAIR], None),
        ([PAIR], [7]),
        ([PAIR], [7, 9]),
        (["no object", PAIR], [2, 3]),
        (["no object", PAIR], [2, 3, 4]),
    ],
)
def test_a_record_has_one_line_or_a_line_for_each_course(records: Any, lines: Any) -> None:
    taken = Chunk.model_validate(chunk(records=records, lines=lines))
    assert taken.tally().requests == len(records)


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        ([PAIR], []),
        ([], [1]),
        ([PAIR], [1, 2, 3]),
        (["no object"], [1, 2]),
    ],
)
def test_lines_that_do_not_fit_their_records_are_refused(records: Any, lines: Any) -> None:
    message = "lines must have an entry for each record, or one for each row"
    assert problems(chunk(records=records, lines=lines), Chunk) == {None: message}


def test_there_are_cells_for_each_line_or_none() -> None:
    kept = chunk(records=[PAIR], lines=[7, 9], cells=[["1", "A"], ["1", "B"]])
    assert Chunk.model_validate(kept).cells == (("1", "A"), ("1", "B"))
    message = "cells must have an entry for each entry of lines"
    assert problems({**kept, "cells": [["1", "A"]]}, Chunk) == {None: message}


@pytest.mark.parametrize(
    "bad",
    [
        {"number": True},
        {"number": -1},
        {"last": 1},
        {"batch_id": ""},
        {"before": {"requests": -1}},
        {"before": {"rows": 2**53 + 1}},
        {"lines": ["1"], "records": [1]},
        {"records": [1] * (MAX_CHUNK_RECORDS + 1)},
        {"refused": [{"line": 0, "message": ""}]},
        {"refused": [{"line": 1, "message": "x" * 1001}]},
        {"refused": [{"line": 1, "message": "\0"}]},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_a_chunk_outside_its_bounds_is_refused_by_one_field(bad: dict[str, Any]) -> None:
    (field,) = problems(chunk(**bad), Chunk)
    assert re.split(r"[\[.]", field)[0] in bad


def test_a_chunk_counts_refused_lines_as_requests_of_one_row() -> None:
    refused = (RefusedLine(line=4, message="x"), RefusedLine(line=5, message="x"))
    held = Chunk(batch_id="b", number=0, records=(PAIR, "no object"), refused=refused)
    assert held.tally() == Tally(requests=4, rows=5)


def test_a_chunk_survives_a_round_trip_through_json() -> None:
    sent = Chunk(batch_id="b", number=3, records=(PAIR,), lines=(7, 9), last=True)
    taken = Chunk.model_validate_json(sent.model_dump_json())
    assert taken.model_dump(mode="json") == sent.model_dump(mode="json")
