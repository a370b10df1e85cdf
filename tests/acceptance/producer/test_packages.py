"""Every client publishes a package with one call, and reports its batches in order."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from producer.client import EnrollmentClient
from producer.errors import InvalidRequest, UnreadableFile
from producer.testing import FakeEnrollmentClient
from support.comparing import clever, enroll
from support.packages import encoded, zipped_package

HEADER = "course_id,user_id,role,section_id,status"


@pytest.fixture
def client(any_client: EnrollmentClient) -> EnrollmentClient:
    return any_client


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex[:8]


def package(folder: Path, prefix: str, **more: list[str]) -> Path:
    """Write a package of Canvas with two students and a teacher; one line is refused."""
    files = {
        "users.csv": ["user_id,login_id,status", *(f"{prefix}{n},l{n},active" for n in "ABT")],
        "sections.csv": ["section_id,course_id,name,status", f"{prefix}S,C,Logic,active"],
        "enrollments.csv": [
            HEADER,
            f"C,{prefix}A,student,{prefix}S,active",
            f"C,{prefix}T,teacher,{prefix}S,active",
            f"C,,student,{prefix}S,active",
        ],
        "more.csv": [HEADER, f"C,{prefix}B,student,{prefix}S,active"],
        **more,
    }
    return zipped_package(files, folder / "export.zip")


def courses(client: EnrollmentClient, student: str) -> list[str | None]:
    found = client.student(student)
    assert found is not None
    return [course.sis_id for course in found.courses]


def test_a_package_is_one_call_and_one_report(
    client: EnrollmentClient, tmp_path: Path, prefix: str
) -> None:
    path = package(tmp_path, prefix)
    submitted = client.submit_file(path, batch_id=prefix)
    names = ["students", "sections", "enrollments", "enrollments-2"]
    assert [batch.batch_id for batch in submitted.batches] == [f"{prefix}:{name}" for name in names]
    assert [batch.file_name for batch in submitted.batches] == [
        *("users.csv", "sections.csv", "enrollments.csv", "more.csv")
    ]
    assert submitted.batch_id == submitted.batches[-1].batch_id
    assert [batch.refused_lines for batch in submitted.batches] == [0, 0, 1, 0]
    assert submitted.batches[2].refused[0].line == 4
    assert any("1 'teacher'" in notice for notice in submitted.notices)
    for batch in submitted.batches:
        client.wait(batch)
    assert courses(client, f"{prefix}A") == courses(client, f"{prefix}B") == [f"{prefix}S"]
    assert client.student(f"{prefix}T") is None
    again = client.submit_file(path, batch_id=prefix)
    assert [batch.published for batch in again.batches] == [0, 0, 0, 0]


@pytest.mark.parametrize("drop_first", [True, False])
def test_two_files_of_enrollments_count_at_one_moment(
    client: EnrollmentClient, tmp_path: Path, prefix: str, drop_first: bool
) -> None:
    drop = [HEADER, f"C,{prefix}A,student,{prefix}S,deleted"]
    enroll = [HEADER, f"C,{prefix}A,student,{prefix}S,active"]
    first, second = (drop, enroll) if drop_first else (enroll, drop)
    path = package(tmp_path, prefix, **{"enrollments.csv": first, "more.csv": second})
    submitted = client.submit_file(path)
    *_, one, other = submitted.batches
    assert one.moment is not None
    assert one.moment == other.moment
    client.wait(one)
    client.wait(other)
    assert courses(client, f"{prefix}A") == [f"{prefix}S"]


def test_a_later_package_wins_against_an_earlier_one(
    client: EnrollmentClient, tmp_path: Path, prefix: str
) -> None:
    client.wait(client.submit_file(package(tmp_path, prefix)))
    gone = [HEADER, f"C,{prefix}A,student,{prefix}S,deleted"]
    client.wait(client.submit_file(package(tmp_path, prefix, **{"enrollments.csv": gone})))
    assert courses(client, f"{prefix}A") == []


def test_an_id_that_is_too_long_for_a_package_publishes_nothing(
    client: EnrollmentClient, tmp_path: Path, prefix: str
) -> None:
    with pytest.raises(InvalidRequest, match="shorten it to at most 114 characters"):
        client.submit_file(package(tmp_path, prefix), batch_id=prefix * 15)
    assert client.student(f"{prefix}A") is None


def test_a_folder_and_the_options_of_formats_are_taken(
    client: EnrollmentClient, tmp_path: Path, prefix: str
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "courses.csv").write_text(f"sis_id,title\n{prefix}C,Logic\n")
    (folder / "students.csv").write_text(f"sis_id,name\n{prefix}A,Ada\n")
    for batch in client.submit_file(folder, format_name="plain").batches:
        client.wait(batch)
    single = tmp_path / "list.csv"
    single.write_text(f"user,mode,course_id\n{prefix}A,verified,{prefix}C\n")
    submitted = client.submit_file(single, format_name="edx")
    assert submitted.batches == ()
    client.wait(submitted)
    assert courses(client, f"{prefix}A") == [f"{prefix}C"]
    with pytest.raises(UnreadableFile, match="cannot be used together"):
        client.submit_file(single, format_name="edx", maps={"student_id": "{user}"})


def test_a_batch_counts_when_its_submitter_says(client: EnrollmentClient, prefix: str) -> None:
    student, course = f"{prefix}A", f"{prefix}C"
    client.wait(client.submit_batch("students", [{"sis_id": student}]))
    client.wait(client.submit_batch("courses", [{"sis_id": course}]))
    drop = [{"student_id": student, "drop_course_ids": [course]}]
    enroll = [{"student_id": student, "course_ids": [course]}]
    client.wait(client.submit_batch("enrollments", drop))
    earlier = datetime.now(UTC) - timedelta(hours=1)
    submitted = client.submit_batch("enrollments", enroll, moment=earlier)
    assert submitted.moment == earlier
    assert client.wait(submitted).books.superseded == 1
    with pytest.raises(InvalidRequest, match="moment"):
        client.submit_batch("enrollments", enroll, moment=earlier.replace(tzinfo=None))
    ahead = earlier + timedelta(days=1)
    with pytest.raises(InvalidRequest, match=r"moment: .* lies ahead of the system's clock"):
        client.submit_batch("enrollments", enroll, moment=ahead)


def test_the_time_of_a_wait_is_that_of_the_whole_package(
    client: EnrollmentClient, tmp_path: Path, prefix: str
) -> None:
    submitted = client.submit_file(package(tmp_path, prefix))
    seen: list[str] = []
    status = client.wait(
        submitted, timeout=60, on_status=lambda status: seen.append(status.batch_id)
    )
    assert list(dict.fromkeys(seen)) == [batch.batch_id for batch in submitted.batches]
    assert status.batch_id == submitted.batch_id


def test_what_a_complete_export_does_not_name_is_counted(
    client: EnrollmentClient, tmp_path: Path, prefix: str
) -> None:
    section, users = f"{prefix}S", [f"{prefix}{letter}" for letter in "ABC"]
    enroll(client, {(user, section) for user in users})
    files = clever([section], [(users[0], section)])
    submitted = client.submit_file(zipped_package(files, tmp_path / "export.zip"))
    assert submitted.not_in_file == 2
    assert submitted.batches[-1].not_in_file is None  # It is a number of the whole package.
    assert any("2 enrollments are current here" in notice for notice in submitted.notices)
    alone = tmp_path / "enrollments.csv"
    alone.write_bytes(encoded(files["enrollments.csv"]))
    assert client.submit_file(alone).not_in_file == 2
    assert client.submit_file(package(tmp_path, prefix)).not_in_file is None


def test_without_a_worker_nothing_is_counted_and_a_notice_says_so(
    tmp_path: Path, prefix: str
) -> None:
    path = zipped_package(clever([prefix], [("A", prefix)]), tmp_path / "export.zip")
    with FakeEnrollmentClient() as client, client.without_worker():
        client.timeout = 0.1
        submitted = client.submit_file(path, wait_for_rosters=False)
    assert submitted.not_in_file is None
    assert any("could not be counted" in notice for notice in submitted.notices)
