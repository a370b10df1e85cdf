"""A file may be submitted as one of drops: its lines are grouped as those of enrollments are."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.batches import RefusedRecord
from producer.errors import UnreadableFile
from producer.files.describing import Choices
from producer.files.reader import open_source, open_stream
from producer.files.refused_lines import DropDetector, write_csv
from producer.publishing.chunking import SourceRecord
from producer.schemas import Code, Kind

PAIRS = "student_id,course_id\n"


def entries(content: str, *, drop: bool) -> list[Any]:
    _, lines = open_stream("a file", io.BytesIO(content.encode()), Choices(drop=drop))
    return list(lines)


def as_drop(record: dict[str, Any]) -> dict[str, Any]:
    return {
        {"course_ids": "drop_course_ids"}.get(name, name): value for name, value in record.items()
    }


@given(
    header=st.sampled_from(["student_id,course_id", "student_id,course_id,reason", "a,b"]),
    cells=st.lists(
        st.tuples(*[st.sampled_from(["S1", "S2", "", "C1", "C2"])] * 2, st.sampled_from(["", "R"])),
        max_size=30,
    ),
)
def test_drops_are_grouped_and_refused_as_enrollments_are(
    header: str, cells: list[tuple[str, ...]]
) -> None:
    names = header.replace("a,b", "student_key,course_key").split(",")
    rows = [",".join(row[: len(names)]) for row in cells]
    content = "\n".join([",".join(names), *rows, ""])
    enrolls, drops = (entries(content, drop=drop) for drop in (False, True))
    assert drops == [
        entry._replace(record=as_drop(entry.record)) if isinstance(entry, SourceRecord) else entry
        for entry in enrolls
    ]


def test_a_file_of_drops_is_described_as_such(tmp_path: Path) -> None:
    path = tmp_path / "drops.csv"
    path.write_text(PAIRS + "S1,C1\nS1,C2\n")
    source = open_source(path, None, {}, drop=True)
    assert (source.kind, source.layout.content, source.ordered) == (
        Kind.ENROLLMENTS, "drops", False,
    )  # fmt: skip
    (entry,) = source.records()
    assert entry == SourceRecord(
        {"student_id": "S1", "drop_course_ids": ["C1", "C2"], "atomic": False}, [2, 3]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PAIRS.replace("\n", ",Action\n") + "S1,C1,drop\n", "has a column action, which says"),
        ("sis_id,name\nS1,Ada\n", "holds students, and only enrollments can be dropped"),
        ("sis_id,title\nC1,Logic\n", "holds courses, and only enrollments can be dropped"),
        ('{"student_id": "S1", "course_ids": ["C1"]}\n', "this is JSON Lines, in which each"),
        ('{"student_id": "S1", "drop_course_ids": ["C1"]}\n', "in drop_course_ids"),
    ],
)
def test_a_file_whose_lines_cannot_all_be_drops_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "upload"
    path.write_text(content)
    with pytest.raises(UnreadableFile, match=message) as caught:
        open_source(path, None, {}, drop=True)
    assert caught.value.options == ("drop",)
    assert "submit it without the option that makes every line a drop" in str(caught.value)
    assert open_source(path, None, {}).layout.drop is False


def test_a_mapped_action_is_refused_as_well(tmp_path: Path) -> None:
    path = tmp_path / "drops.csv"
    path.write_text("student_id,course_id,what\nS1,C1,drop\n")
    with pytest.raises(UnreadableFile, match="has a column action"):
        open_source(path, None, {"action": "{what}"}, drop=True)


def test_the_refused_lines_of_drops_have_their_courses() -> None:
    refusals = [
        RefusedRecord(
            id=line, line=line, code=Code.UNKNOWN_COURSE, message="no such course", record=record
        )
        for line, record in enumerate(
            [{"student_id": "S1", "drop_course_ids": [c], "reason": "moved"} for c in ("C1", 2)], 2
        )
    ]
    file = io.BytesIO()
    write_csv(file, ["student_id", "course_id", "reason"], None, refusals)
    assert file.getvalue().decode().splitlines()[1:] == [
        "2,unknown_course,no such course,S1,C1,moved",
        "3,unknown_course,no such course,S1,2,moved",
    ]


@given(
    kinds=st.lists(st.sampled_from(["enroll", "drop", "swap", "unread"]), max_size=6),
    columns=st.sampled_from([None, ("student_id", "course_id"), ("student_id", " Action", "c")]),
)
def test_drops_are_noticed_in_a_file_that_does_not_show_them(
    kinds: list[str], columns: tuple[str, ...] | None
) -> None:
    fields = {"enroll": ["course_ids"], "drop": ["drop_course_ids"]}
    refusals = [
        RefusedRecord(
            id=line,
            line=line,
            code=Code.INVALID_REQUEST,
            message="bad",
            record=None
            if kind == "unread"
            else {name: ["C1"] for name in fields.get(kind, ["course_ids", "drop_course_ids"])},
        )
        for line, kind in enumerate(kinds, 1)
    ]
    detector = DropDetector(refusals, columns)
    assert list(detector) == refusals
    has_drops = not {"drop", "swap"}.isdisjoint(kinds)
    assert detector.has_hidden_drops is (has_drops and columns == ("student_id", "course_id"))
