"""What a complete export does not name is counted, whatever happened to what it names."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from producer.client import EnrollmentClient
from producer.schemas import Kind
from producer.testing import FakeEnrollmentClient
from producer.testing.connection import MemoryBroker
from support.comparing import clever, compared, enroll, submit
from support.packages import opened, zipped_package
from support.sql_worker import SqlWorker
from worker.database.engine import Database

ONEROSTER = {
    "manifest.csv": ["propertyName,value", "oneroster.version,1.1", "file.enrollments,bulk"],
    "classes.csv": ["sourcedId,status,title,classType", "C1,,Algebra,scheduled"],
}
HEADER = "sourcedId,status,classSourcedId,schoolSourcedId,userSourcedId,role,beginDate,endDate"


@pytest.fixture
def worker(database: Database) -> SqlWorker:
    return SqlWorker(database)


@pytest.fixture
def client(worker: SqlWorker) -> EnrollmentClient:
    worker.clear()
    return FakeEnrollmentClient(broker=MemoryBroker(worker))


SECTIONS = ["C1", "C2", "C3", "C4"]
PAIRS = st.sets(st.tuples(st.sampled_from(["A", "B", "D", "E"]), st.sampled_from(SECTIONS)))


@given(
    PAIRS,
    st.lists(st.tuples(st.sampled_from(["A", "B", "D", "unknown"]), st.sampled_from(SECTIONS))),
    st.sets(st.sampled_from([*SECTIONS, "nowhere"])),
    st.booleans(),
)
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_is_not_in_the_file_is_counted_as_by_set_algebra(
    worker: SqlWorker,
    tmp_path: Path,
    before: set[tuple[str, str]],
    lines: list[tuple[str, str]],
    sections: set[str],
    is_submitted: bool,
) -> None:
    worker.clear()
    client = FakeEnrollmentClient(broker=MemoryBroker(worker))
    enroll(client, before)
    files = clever(sorted(sections), lines)
    if is_submitted:  # The comparison does not depend on it.
        with opened(zipped_package(files, tmp_path / "first.zip")) as package:
            submit(client, package, "night")
    described = sections | {course for _, course in lines}
    lacking = {pair for pair in before - set(lines) if pair[1] in described}
    assert compared(client, files, tmp_path).not_in_file == len(lacking)


def test_refused_and_ended_lines_name_their_students(
    client: EnrollmentClient, tmp_path: Path
) -> None:
    enroll(client, {(student, "C1") for student in "ABDEFGHI"})
    files = {
        **ONEROSTER,
        "enrollments.csv": [
            HEADER,
            "1,,C1,S,A,student,,",
            "2,perhaps,C1,S,B,student,,",
            "3,tobedeleted,C1,S,D,student,,",
            "4,,C1,S,E,student,2019-01-01,2019-06-01",
            "5,,C1,S,F,,,",
            "6,,C1,S,G,teacher,,",
            "7,,C1,S,H",
            "8,,C1,S,,student,,",
        ],
    }
    with opened(zipped_package(files, tmp_path / "first.zip")) as package:
        submit(client, package, "night")
    # A teacher is no student, and the ids of a line with too few cells cannot be read.
    found = compared(client, files, tmp_path)
    assert found.not_in_file == len({"G", "H", "I"})


def test_a_drop_that_a_later_request_superseded_still_names_its_student(
    client: EnrollmentClient, tmp_path: Path
) -> None:
    enroll(client, {("A", "C1"), ("B", "C1")})
    files = {**ONEROSTER, "enrollments.csv": [HEADER, "1,tobedeleted,C1,S,A,student,,"]}
    with opened(zipped_package(files, tmp_path / "first.zip")) as package:
        submit(client, package, "night")
        client.wait(
            client.submit_batch(Kind.ENROLLMENTS, [{"student_id": "A", "course_ids": ["C1"]}])
        )
        submit(client, package, "night", resume=True)
    assert client.rolls(["C1"]).students == {"C1": ("A", "B")}
    assert compared(client, files, tmp_path).not_in_file == 1


def test_an_emptied_and_a_deleted_section_are_described_without_a_line_about_a_student(
    client: EnrollmentClient, tmp_path: Path
) -> None:
    enroll(client, {("A", "C1"), ("A", "C2"), ("B", "C2"), ("A", "C3")})
    classes = [*ONEROSTER["classes.csv"], "C2,tobedeleted,Biology,scheduled"]
    files = {**ONEROSTER, "classes.csv": classes, "enrollments.csv": [HEADER]}
    found = compared(client, files, tmp_path)
    assert found.not_in_file == 3
    assert found.notice is not None
    assert "(2 in 'C2', 1 in 'C1')" in found.notice
