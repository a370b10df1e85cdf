"""Lines of enrollments may have a reason, and a time at which they count."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.files.reader import open_stream
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind, StudentEnrollmentRequest
from support.commands import invoke_enroll
from support.source_files import Open, read, refused

HEADER = "student_id,course_id,reason,as_of\n"
TIME = "2026-09-01T08:00:00Z"


def test_a_line_with_a_reason_or_a_time_is_a_request_of_its_own(opened: Open) -> None:
    rows = ["S1,C1,,", "S1,C2,moved,", "S1,C3,,", f"S1,C4,,{TIME}", f"S1,C5,moved,{TIME}"]
    request: dict[str, Any] = {"student_id": "S1", "course_ids": ["C1", "C3"], "atomic": False}
    assert read(opened(HEADER + "\n".join(rows))) == [
        (request, (2, 4)),
        (request | {"course_ids": ["C2"], "reason": "moved"}, (3,)),
        (request | {"course_ids": ["C4"], "as_of": TIME}, (5,)),
        (request | {"course_ids": ["C5"], "reason": "moved", "as_of": TIME}, (6,)),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["S1", "S2"]),
            st.sampled_from(["C1", "C2", "C3"]),
            st.sampled_from(["", "moved", "ill"]),
            st.sampled_from(["", TIME]),
            st.sampled_from(["", "enroll", "drop"]),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_every_line_is_asked_for_with_its_own_reason_and_time(
    rows: list[tuple[str, ...]], with_action: bool
) -> None:
    width = 5 if with_action else 4
    header = HEADER.replace("\n", ",action\n") if with_action else HEADER
    content = header + "".join(",".join(row[:width]) + "\n" for row in rows)
    layout, lines = open_stream("a file", io.BytesIO(content.encode()))
    found = {}
    for entry in lines:
        assert isinstance(entry, SourceRecord)
        request = StudentEnrollmentRequest.model_validate(entry.record)
        courses = [
            *((course, "drop") for course in request.drop_course_ids),
            *((course, "enroll") for course in request.course_ids),
        ]
        for line, course in zip(entry.lines, courses, strict=True):
            about = (entry.record.get("reason", ""), entry.record.get("as_of", ""))
            found[line] = (request.student_id, course[0], *about, course[1])
    expected = [(*row[:4], (with_action and row[4]) or "enroll") for row in rows]
    assert found == dict(enumerate(expected, 2))
    assert layout.ordered is with_action


def test_a_reason_that_is_too_long_is_refused(opened: Open) -> None:
    line = refused(opened(HEADER + f"S1,C1,{'x' * 256},\n"))
    assert line.field == "reason"
    assert line.message == "reason: has 256 characters; shorten it to at most 255"


@pytest.mark.parametrize(("name", "column"), [("reason", "Why"), ("as_of", "When")])
def test_a_reason_and_a_time_may_be_mapped(opened: Open, name: str, column: str) -> None:
    source = opened(
        f"student_id,course_id,{column}\nS1,C1,2026-09-01\n", **{name: f"{{{column}}}T08:00Z"}
    )
    assert source.kind is Kind.ENROLLMENTS
    ((record, _),) = read(source)
    assert record[name] == "2026-09-01T08:00Z"


def test_a_time_of_a_roster_does_not_make_it_one_of_enrollments(opened: Open) -> None:
    source = opened("sis_id,name,day\nS1,Ada,2026-09-01\n", as_of="{day}T08:00:00Z")
    assert source.kind is Kind.STUDENTS


def test_a_check_refuses_times_without_a_zone_and_returns_the_whole_line(tmp_path: Path) -> None:
    path, refusals = tmp_path / "pairs.csv", tmp_path / "refused.csv"
    rows = ["S1,C1,,2026-09-01 08:00,by hand", f"S1,C1,ill,{TIME},by mail"]
    path.write_text(HEADER.replace("\n", ",note\n") + "\n".join(rows) + "\n")
    done = invoke_enroll("submit", "--check", str(path), "--refused", str(refusals), "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    (line,) = found["refused"]
    assert line["line"] == 2
    assert "as_of: must be a time with its time zone, for example 2026" in line["message"]
    assert found["first_rows"][1] == {
        "line": 3, "student_id": "S1", "course_id": "C1", "reason": "ill", "as_of": TIME,
    }  # fmt: skip
    assert refusals.read_text().splitlines()[1].endswith(rows[0])
