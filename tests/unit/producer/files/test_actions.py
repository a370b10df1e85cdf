"""A column `action` makes a file an operation list: each line is a request, in the file's order."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.chunks import EnrollmentChunk, RefusedLine
from producer.files.reader import open_stream
from producer.publishing.chunking import Line, split_into_chunks
from producer.schemas import StudentEnrollmentRequest
from support.source_files import Open, read, refused

HEADER = "student_id,course_id,action\n"
ENROLLS = ("", "enroll", "Enroll", " ENROLL ", "eNroLL")
DROPS = ("drop", " DROP", "Drop ", "dRoP")
OTHERS = ("remove", "add", "0", "drops", "en roll", "withdraw", "dr\u00f6p")
KNOWN = dict.fromkeys(ENROLLS, "course_ids") | dict.fromkeys(DROPS, "drop_course_ids")


def entries_of(content: str) -> list[Line]:
    _, lines = open_stream("a file", io.BytesIO(content.encode()))
    return list(lines)


def test_each_line_is_a_request_of_its_own(opened: Open) -> None:
    source = opened(HEADER + "S1,C1,\nS1,C2,enroll\nS1,C1,drop\nS2,C1,\nS1,C1,Enroll\n")
    enroll: dict[str, Any] = {"student_id": "S1", "course_ids": ["C1"], "atomic": False}
    drop: dict[str, Any] = {"student_id": "S1", "drop_course_ids": ["C1"], "atomic": False}
    assert read(source) == [
        (enroll, (2,)),
        (enroll | {"course_ids": ["C2"]}, (3,)),
        (drop, (4,)),
        (enroll | {"student_id": "S2"}, (5,)),
        (enroll, (6,)),
    ]


@given(st.lists(st.sampled_from([*KNOWN, *OTHERS]), max_size=30))
def test_each_line_is_submitted_or_refused_by_its_own_action(actions: list[str]) -> None:
    entries = entries_of(HEADER + "".join(f"S1,C1,{action}\n" for action in actions))
    assert len(entries) == len(actions)
    for action, entry in zip(actions, entries, strict=True):
        if isinstance(entry, RefusedLine):
            assert action not in KNOWN
            assert entry.field == "action"
            assert f"action: {action.strip()!a} is not an action; write enroll or drop" in (
                entry.message
            )
        else:
            request = StudentEnrollmentRequest.model_validate(entry.record)
            assert getattr(request, KNOWN[action]) == ("C1",)
            assert len(request.course_ids + request.drop_course_ids) == 1


@given(st.lists(st.sampled_from([*KNOWN, *OTHERS]), min_size=1, max_size=30))
def test_the_chunks_of_an_operation_list_are_in_order(actions: list[str]) -> None:
    content = HEADER + "".join(f"S1,C1,{action}\n" for action in actions)
    layout, lines = open_stream("a file", io.BytesIO(content.encode()))
    options = (layout.columns, layout.kind, layout.form)
    (part,) = split_into_chunks("b", lines, *options, ordered=layout.ordered)
    chunk = EnrollmentChunk.model_validate_json(part.text)
    assert chunk.ordered
    order = [line for (line,) in chunk.lines_of_records]
    assert order == [line for line, action in enumerate(actions, 2) if action in KNOWN]
    assert [chunk.row_counts, part.tally.rows] == [[1] * len(order), len(actions)]


@pytest.mark.parametrize("header", ["Action", "what"])
def test_another_column_may_be_mapped_to_the_action(opened: Open, header: str) -> None:
    templates = {} if header == "Action" else {"action": f"{{{header}}}"}
    source = opened(f"student_id,course_id,{header}\nS1,C1,drop\nS1,C2,\n", **templates)
    assert source.ordered
    (drop, _), (enroll, _) = read(source)
    assert (drop["drop_course_ids"], enroll["course_ids"]) == (["C1"], ["C2"])


def test_keys_and_sis_ids_may_be_dropped(opened: Open) -> None:
    (record, _), *others = read(opened("action,course_key,student_sis_id\ndrop,17,S1\n"))
    assert record == {"student_id": "S1", "drop_course_ids": [17], "atomic": False}
    assert others == []


def test_a_bad_action_is_refused_with_the_whole_line(opened: Open) -> None:
    line = refused(opened("student_id,action,note,course_id\nS1,remove,by hand,C1\n"))
    assert (line.line, line.field) == (2, "action")
    assert line.cells == ("S1", "remove", "by hand", "C1")
    assert line.message == (
        "action: 'remove' is not an action; write enroll or drop, or leave the cell empty, which"
        " means enroll; or rename the column if it means something else"
    )


@pytest.mark.parametrize("header", ["student_id,course_id,reason", "student_id,course_id"])
def test_a_file_without_actions_is_in_no_order(opened: Open, header: str) -> None:
    source = opened(f"{header}\n")
    assert not source.ordered
    assert source.layout.content == "enrollments"
