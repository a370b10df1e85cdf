"""SIS ids that are numbers, and our keys: neither is ever taken for the other."""

import json
from pathlib import Path
from typing import Any

import pytest

from producer.client import EnrollmentClient
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.commands import GOOD, REFUSED, USAGE
from support.waiting import wait_for
from support.workers import Deployment

STUDENTS = "sis_id,name\n2,Ben Two\n3,Cy Three\n4,Dee Four\n"
COURSES = "sis_id,title\n20,Course Twenty\n30,Course Thirty\n1,Course One\n"
KEYS = {"Ben Two": 1, "Cy Three": 2, "Dee Four": 3}
ENROLLMENTS = "student_id,course_id\n2,1\n003,1\n"


class Registrar:
    """Submits files to a deployment whose roster has numeric ids that are keys of others."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self._folder = folder
        self.submit("students.csv", STUDENTS)
        self.submit("courses.csv", COURSES)

    def submit(self, name: str, text: str, *options: str, expect: int = GOOD) -> Any:
        path = self._folder / name
        path.write_text(text)
        done = self.deployment.enroll("submit", path, *options, "--json", expect=expect)
        if expect == USAGE:
            return done.stderr
        status = json.loads(done.stdout)
        for notice in status["notices"]:
            assert f"Notice: {notice}\n" in done.stderr
        return status

    def courses_of(self, student: str) -> list[str]:
        found = json.loads(self.deployment.enroll("student", student, "--json").stdout)
        assert found["id"] == KEYS[found["name"]]
        return [course["title"] for course in found["courses"]]

    def refusals(self, batch: Any) -> list[tuple[int, str]]:
        path = self._folder / "refused.csv"
        self.deployment.enroll("errors", batch["batch_id"], "--csv", path)
        lines = path.read_text().splitlines()[1:]
        return [(int(line.split(",")[0]), line.split(",", 2)[2]) for line in lines]


@pytest.fixture
def registrar(fresh_deployment: Deployment, tmp_path: Path) -> Registrar:
    return Registrar(fresh_deployment, tmp_path)


def test_numeric_ids_of_a_file_enroll_the_students_who_have_them(registrar: Registrar) -> None:
    status = registrar.submit("enrollments.csv", ENROLLMENTS, expect=REFUSED)
    assert (status["books"]["enrolled"], status["books"]["rejected"]) == (1, 1)
    assert status["notices"] == []
    assert registrar.refusals(status) == [(3, "no student has the SIS id '003',003,1")]
    assert registrar.courses_of("2") == ["Course One"]
    assert registrar.courses_of("3") == registrar.courses_of("4") == []


def test_columns_of_keys_and_a_mapping_name_people_by_our_keys(registrar: Registrar) -> None:
    file = "student_key,course_key\n2,2\n9,1\n003,1\n"
    status = registrar.submit("keys.csv", file, expect=REFUSED)
    assert (status["books"]["enrolled"], status["books"]["rejected"]) == (1, 2)
    unknown, not_a_key = registrar.refusals(status)
    assert unknown[0] == 3
    assert "no student has the key 9 (our own number, not a SIS id)" in unknown[1]
    assert not_a_key[0] == 4
    assert "'003' is not one of our keys" in not_a_key[1]
    assert "rename it to student_id" in not_a_key[1]
    assert not_a_key[1].endswith(",003,1")
    assert registrar.courses_of("3") == ["Course Twenty"]
    shown = registrar.deployment.enroll("results", "3").stdout
    assert "student 3 (key 2)" in shown
    maps = ("--map", "student_key={student_id}", "--map", "course_id={course_id}")
    registrar.submit("mapped.csv", "student_id,course_id\n3,30\n", *maps)
    assert registrar.courses_of("4") == ["Course Thirty"]


def test_a_file_with_a_key_and_an_id_of_one_thing_is_reported_before_anything_is_written(
    registrar: Registrar,
) -> None:
    file = "student_id,student_key,course_id\n2,2,1\n"
    output = registrar.submit("both.csv", file, expect=USAGE)
    assert "student_id holds SIS ids, student_key holds our keys" in output
    assert registrar.courses_of("2") == registrar.courses_of("3") == []
    registrar.submit("both.csv", file, "--map", "student_key={student_key}")
    assert (registrar.courses_of("2"), registrar.courses_of("3")) == ([], ["Course One"])


def test_an_integer_in_json_lines_is_our_key_and_a_notice_says_so(registrar: Registrar) -> None:
    status = registrar.submit("keys.jsonl", '{"student_id": 2, "course_ids": [2]}\n')
    (notice,) = status["notices"]
    assert "line 1 has the integer 2 as an id. In JSON, an integer is our key" in notice
    assert registrar.courses_of("3") == ["Course Twenty"]
    status = registrar.submit("ids.jsonl", '{"student_id": "2", "course_ids": ["1"]}\n')
    assert status["notices"] == []
    assert registrar.courses_of("2") == ["Course One"]


def test_what_was_noticed_before_an_error_is_printed(registrar: Registrar) -> None:
    ids = '{"student_id": "2", "course_ids": ["1"]}\n' * 2_000
    registrar.submit("ids.jsonl", ids, "--batch-id", "taken")
    late_key = ids + '{"student_id": 2, "course_ids": [2]}\n'
    output = registrar.submit("late.jsonl", late_key, "--batch-id", "taken", expect=USAGE)
    assert output.count("Notice: ") == output.count("line 2001 has the integer 2 as an id") == 1
    assert "already submitted with different records" in output


def test_a_batch_of_numeric_ids_begun_by_an_earlier_version_is_not_continued(
    registrar: Registrar,
) -> None:
    # An earlier version read the same file like this.
    records = [
        SourceRecord({"student_id": key, "course_ids": [1], "atomic": False}, [line])
        for key, line in ((2, 2), (3, 3))
    ]
    columns = ["student_id", "course_id"]
    with EnrollmentClient(registrar.deployment.broker_url, timeout=20) as client:
        client.submit_batch(Kind.ENROLLMENTS, records, batch_id="begun", columns=columns)
        wait_for(lambda: client.batch("begun").state == "done")
        before = client.batch("begun")
        output = registrar.submit(
            "enrollments.csv", ENROLLMENTS, "--batch-id", "begun", expect=USAGE
        )
        assert "was already submitted with different records" in output
        assert client.batch("begun") == before
    assert registrar.courses_of("2") == []
