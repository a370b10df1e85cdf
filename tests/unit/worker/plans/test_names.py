"""What a chunk names is listed before it is applied: too much is harmless, too little is not."""

import json

import pytest

from producer.contract.chunks import KIND_CHUNKS, Chunk
from producer.schemas import Kind
from worker.plans.temporary.names import Named, Scan, names_in, scan


def enrollments(**fields: object) -> Chunk:
    chunk = {"batch_id": "b", "number": 0, **fields}
    return KIND_CHUNKS[Kind.ENROLLMENTS].model_validate_json(json.dumps(chunk))


def test_columns_name_students_and_courses() -> None:
    columns = {"student_ids": ["A", 7], "drop_course_ids": [["M1"], [2, "M3"]]}
    named = names_in(Kind.ENROLLMENTS, enrollments(requests=columns))
    assert named == Named({"A", 7}, {"M1", 2, "M3"}, set())


def test_requests_name_their_own_ids_and_what_they_drop() -> None:
    record = {"student_id": "A", "course_ids": ["M1"], "drop_course_ids": [2], "request_id": "r"}
    named = names_in(Kind.ENROLLMENTS, enrollments(records=[record]))
    assert named == Named({"A"}, {"M1", 2}, {"r"})


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"student_id": "A", "course_ids": ["M1", 2.5, None, True]}, Named({"A"}, {"M1"}, set())),
        ({"student_id": 0, "course_ids": "M1"}, Named(set(), set(), set())),
        ({"student_id": "A\0", "course_ids": [], "x": 1}, Named(set(), set(), set())),
        ({"student_id": ["A"], "course_ids": [["M1"]]}, Named(set(), set(), set())),
        (["A", "M1"], Named(set(), set(), set())),
        (None, Named(set(), set(), set())),
    ],
)
def test_a_broken_record_names_what_can_be_an_id(record: object, expected: Named) -> None:
    assert names_in(Kind.ENROLLMENTS, enrollments(records=[record])) == expected


def test_a_cell_of_a_refused_line_may_be_a_student_or_a_course() -> None:
    line = {"line": 2, "message": "too few cells", "cells": ["A", "", "M1"]}
    named = names_in(Kind.ENROLLMENTS, enrollments(refused=[line]))
    assert named == Named({"A", "M1"}, {"A", "M1"}, set())


@pytest.mark.parametrize("kind", [Kind.STUDENTS, Kind.COURSES])
def test_rosters_name_their_records(kind: Kind) -> None:
    chunk = {"batch_id": "b", "number": 0, "records": [{"sis_id": "A"}, {"sis_id": 7}, None]}
    students, courses, request_ids = names_in(kind, KIND_CHUNKS[kind].model_validate(chunk))
    named, others = (students, courses) if kind is Kind.STUDENTS else (courses, students)
    # A number may be a key of ours elsewhere; the record is refused.
    assert (named - {7}, others, request_ids) == ({"A"}, set(), set())


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ('[{"student_id": "A", "course_ids": ["M1"]}]', Scan()),
        ('[{"student_id": "drop_course_ids", "course_ids": ["as_of"]}]', Scan(True, True)),
        ('[{"student_id": "A", "drop_course_ids": ["M1"]}]', Scan(may_drop=True)),
        ('[{"student_id": "A", "course_ids": [], "as_of": null}]', Scan(may_name_times=True)),
        (r'[{"student_id": "A", "drop\u005fcourse_ids": ["M1"]}]', Scan(True, True)),
        (r'[{"student_id": "A", "course_ids": ["M\u00fcller"]}]', Scan()),
    ],
)
def test_the_text_of_a_chunk_says_what_it_may_do(records: str, expected: Scan) -> None:
    text = f'{{"batch_id": "b", "number": 0, "records": {records}}}'
    Chunk.model_validate_json(text)  # It can be read.
    assert scan(["{}", text]) == expected


def test_every_way_of_writing_a_name_is_seen() -> None:
    """JSON may write each letter as an escape."""
    for name, field in (("drop_course_ids", "may_drop"), ("as_of", "may_name_times")):
        for position, letter in enumerate(name):
            for escape in (f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"):
                written = name[:position] + escape + name[position + 1 :]
                assert json.loads(f'"{written}"') == name
                assert getattr(scan([f'{{"{written}": []}}']), field)
