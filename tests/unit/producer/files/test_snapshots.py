"""Which files can be the whole truth of a data set, and what is submitted of them."""

from pathlib import Path

import psutil
import pytest

from producer.errors import InvalidRequest, UnreadableFile
from producer.files.refused_lines import write_csv
from producer.testing import FakeEnrollmentClient
from support.packages import zipped_package

USERS = ["sourcedId,role,givenName,familyName", "u-1,student,Ada,L", "u-2,student,Alan,T"]
CLASSES = ["sourcedId,title,classCode", "c-1,Algebra,ALG"]
ENROLLMENTS = [
    "sourcedId,status,classSourcedId,userSourcedId,role,endDate",
    "e-1,,c-1,u-1,student,",
    "e-2,,c-1,u-2,student,2020-01-05",
]


def export(path: Path, mode: str = "bulk") -> Path:
    names = ("classes", "enrollments", "users")
    manifest = ["propertyName,value", *(f"file.{name},{mode}" for name in names)]
    return zipped_package(
        {
            "manifest.csv": manifest,
            "users.csv": USERS,
            "classes.csv": CLASSES,
            "enrollments.csv": ENROLLMENTS,
        },
        path,
    )


@pytest.fixture
def client() -> FakeEnrollmentClient:
    client = FakeEnrollmentClient()
    client.create_data_set("sis")
    return client


def test_ended_enrollments_of_an_export_are_left_out_of_its_snapshot(
    client: FakeEnrollmentClient, tmp_path: Path
) -> None:
    submitted = client.submit_file(export(tmp_path / "export.zip"), snapshot="sis")
    plan = client.plan(str(submitted.plan_id))
    assert plan.state == "done"
    assert [batch.books.received for batch in plan.batches] == [2, 1, 1]
    assert plan.batches[-1].books.enrolled == 1
    (notice,) = [text for text in submitted.notices if ".zip: 1 line is" in text]
    assert "about enrollments that have ended: 1 'ended'. The snapshot leaves them out" in notice


def test_an_export_that_holds_only_changes_is_no_snapshot(
    client: FakeEnrollmentClient, tmp_path: Path
) -> None:
    path = export(tmp_path / "export.zip", "delta")
    with pytest.raises(UnreadableFile, match="holds only what has changed"):
        client.submit_file(path, snapshot="sis")


def test_lines_of_a_snapshot_cannot_count_at_moments_of_their_own(
    client: FakeEnrollmentClient, tmp_path: Path
) -> None:
    lines = [ENROLLMENTS[0] + ",dateLastModified", "e-1,,c-1,u-1,student,,2026-08-01"]
    path = tmp_path / "enrollments.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UnreadableFile, match="count at the same moment") as raised:
        client.submit_file(path, snapshot="sis", moments_from_file=True)
    assert raised.value.options == ("moments-from-file", "snapshot")


@pytest.mark.parametrize(
    ("header", "line", "mapping"),
    [
        ("student_id,course_id,as_of", "S,C,2026-08-01T08:00:00Z", {}),
        ("student_id,course_id,As Of", "S,C,", {}),
        (
            "pupil,class,since",
            "S,C,2026-08-01",
            {"student_sis_id": "{pupil}", "course_sis_id": "{class}", "as_of": "{since}T00:00:00Z"},
        ),
    ],
)
def test_a_file_with_moments_is_no_snapshot(
    client: FakeEnrollmentClient,
    tmp_path: Path,
    header: str,
    line: str,
    mapping: dict[str, str],
) -> None:
    """An older moment would not enroll a student whom an earlier snapshot has dropped."""
    path = tmp_path / "night.csv"
    path.write_text(f"{header}\n{line}\n")
    with pytest.raises(UnreadableFile, match=r"has a column as_of, .* Remove the column") as raised:
        client.submit_file(path, snapshot="sis", maps=mapping)
    assert raised.value.options == ("snapshot",)
    client.submit_file(path, data_set="sis", maps=mapping)


def test_json_lines_with_moments_are_no_snapshot(
    client: FakeEnrollmentClient, tmp_path: Path
) -> None:
    path = tmp_path / "night.jsonl"
    lines = ['{"student_id": "S", "course_ids": ["C"], "as_of": null}'] * 2
    lines[1] = lines[1].replace("null", '"2026-08-01T08:00:00Z"')
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UnreadableFile, match=r"Line 2 of .* has a field as_of") as raised:
        client.submit_file(path, snapshot="sis")
    assert raised.value.options == ("snapshot",)


def test_a_file_of_drops_is_no_snapshot(client: FakeEnrollmentClient, tmp_path: Path) -> None:
    path = tmp_path / "enrollments.csv"
    path.write_text("student_id,course_id\nS,C\n")
    with pytest.raises(UnreadableFile, match=r" is submitted as drops"):
        client.submit_file(path, snapshot="sis", drop=True)


def test_refused_lines_are_no_snapshot(client: FakeEnrollmentClient, tmp_path: Path) -> None:
    client.submit_batch("students", [{"sis_id": "S"}, {"sis_id": "T"}])
    client.submit_batch("courses", [{"sis_id": "C"}])
    whole, refused = tmp_path / "night.csv", tmp_path / "refused.csv"
    whole.write_text("student_id,course_id\nS,C\nU,C\n")
    batch = client.submit_file(whole, snapshot="sis").batch_id
    with refused.open("wb") as file:
        status = client.batch(batch)
        write_csv(file, status.columns, status.form, client.refusals(batch))
    refused.write_text(refused.read_text().replace("U,C", "T,C"))
    with pytest.raises(UnreadableFile, match="holds the refused lines of another file") as raised:
        client.submit_file(refused, snapshot="sis")
    assert raised.value.options == ("snapshot", "data-set")
    client.submit_file(refused, data_set="sis")
    whole.write_text("student_id,course_id\nS,C\n")
    plan = client.plan(client.submit_file(whole, snapshot="sis").batch_id)
    assert plan.absent.dropped == 1  # What was corrected belongs to the data set.


def test_a_file_that_is_refused_because_of_a_drop_is_closed(
    client: FakeEnrollmentClient, tmp_path: Path
) -> None:
    path = tmp_path / "enrollments.jsonl"
    drop = '{"student_id": "S", "drop_course_ids": ["C"]}\n'
    path.write_text(drop + '{"student_id": "S", "course_ids": ["C"]}\n' * 20_000)
    with pytest.raises(UnreadableFile, match="is a drop") as raised:
        client.submit_file(path, snapshot="sis")
    # Its traceback holds what had been opened.
    assert raised.tb is not None
    assert str(path) not in {file.path for file in psutil.Process().open_files()}


def test_a_roster_is_no_snapshot(client: FakeEnrollmentClient, tmp_path: Path) -> None:
    path = tmp_path / "students.csv"
    path.write_text("sis_id,name\nS,Ada\n")
    with pytest.raises(InvalidRequest, match=r"snapshot needs enrollments, .* only students"):
        client.submit_file(path, snapshot="sis")
    with pytest.raises(InvalidRequest, match="only enrollments belong to a data set"):
        client.submit_file(path, data_set="sis")
    assert client.submit_file(path, dry_run=True).plan_id is not None
