"""A column `action` makes each line a request of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.source_files import Open, courses, read, read_pipe

HEADER = "student_id,course_id,action\n"
ENROLLS = ("", "enroll", "Enroll", " ENROLL ")


def test_lines_with_actions_are_not_grouped(opened: Open) -> None:
    source = opened(HEADER + "S1,C1,\nS1,C2,enroll\nS2,C1,\nS1,C1,\n")
    assert courses(source) == [
        ("S1", ["C1"], (2,)),
        ("S1", ["C2"], (3,)),
        ("S2", ["C1"], (4,)),
        ("S1", ["C1"], (5,)),
    ]


@given(st.lists(st.sampled_from([*ENROLLS, "drop", " DROP", "remove", "add", "0"]), max_size=30))
def test_each_line_is_submitted_or_refused_by_its_own_action(actions: list[str]) -> None:
    text = HEADER + "".join(f"S1,C1,{action}\n" for action in actions)
    entries, _ = read_pipe(text.encode())
    assert len(entries) == len(actions)
    refused = {entry[0]: entry[1] for entry in entries if len(entry) == 2}
    assert set(refused) == {n for n, action in enumerate(actions, 2) if action not in ENROLLS}
    for line, message in refused.items():
        is_drop = actions[line - 2].strip().casefold() == "drop"
        assert ("cannot be dropped" in message) == is_drop


@pytest.mark.parametrize("header", ["Action", "what"])
def test_another_column_may_be_mapped_to_the_action(opened: Open, header: str) -> None:
    templates = {} if header == "Action" else {"action": f"{{{header}}}"}
    source = opened(f"student_id,course_id,{header}\nS1,C1,drop\nS1,C2,\n", **templates)
    refusal, (record, lines) = read(source)
    assert refusal == (2, "action: a student cannot be dropped through a file yet; remove the line")
    assert (record["course_ids"], lines) == (["C2"], (3,))
