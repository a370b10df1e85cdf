"""Drops from the command line, in files, in Python and over HTTP, decided by a real worker."""

import csv
import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from producer.client import EnrollmentClient
from producer.fields import MAX_CHUNK_RECORDS
from support.commands import GOOD, REFUSED
from support.http import serving
from support.rosters import enter_roster, finished
from support.workers import Deployment

STUDENTS, COURSES = 4, 3

Pair = tuple[str, str]


class Scene(NamedTuple):
    """A roster of a test's own, and the files of the test."""

    deployment: Deployment
    client: EnrollmentClient
    folder: Path
    students: list[str]
    courses: list[str]

    def enrolled(self) -> set[Pair]:
        """Return the pairs that are enrolled."""
        found = self.client.students(self.students)
        return {
            (student.sis_id, course.sis_id)
            for student in found
            if student is not None
            for course in student.courses
        }

    def write(self, name: str, header: str, rows: list[str]) -> Path:
        path = self.folder / name
        path.write_text("\n".join([header, *rows, ""]))
        return path

    def submit(self, path: Path, *options: str, expect: int = GOOD) -> dict[str, Any]:
        done = self.deployment.enroll("submit", path, *options, "--json", expect=expect)
        status: dict[str, Any] = json.loads(done.stdout)
        assert_balanced(status["books"])
        return status


def assert_balanced(books: dict[str, int]) -> None:
    assert books["received"] == sum(books.values()) - books["received"]


def counts(status: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in status["books"].items() if count}


@pytest.fixture
def scene(deployment: Deployment, client: EnrollmentClient, tmp_path: Path) -> Scene:
    prefix = uuid.uuid4().hex[:8]
    students = [f"{prefix}-S{n}" for n in range(STUDENTS)]
    courses = [f"{prefix}-C{n}" for n in range(COURSES)]
    enter_roster(client, students, courses)
    return Scene(deployment, client, tmp_path, students, courses)


def test_a_request_drops_swaps_and_is_superseded(scene: Scene) -> None:
    (student, *_), (one, two, _) = scene.students, scene.courses
    enroll = scene.deployment.enroll
    enroll("request", student, one)
    dropped = enroll("request", student, "--drop", one, "--drop", two, "--reason", "moved").stdout
    head, reason, _, *lines = dropped.splitlines()
    assert head.endswith(": dropped")
    assert reason == "  reason: moved"
    assert [line.split() for line in lines] == [
        [one, "dropped"],
        [two, *["was", "not", "enrolled"]],
    ]
    refused = enroll("request", student, one, "--drop", "no-such-course", expect=REFUSED)
    assert "unknown_course" in refused.stdout
    assert scene.enrolled() == set()
    enroll("request", student, one)
    assert "changed" in enroll("request", student, two, "--drop", one).stdout
    assert scene.enrolled() == {(student, two)}
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    request_id = scene.client.submit(
        {"student_id": student, "drop_course_ids": [two], "as_of": yesterday}
    )
    printed = enroll("wait", request_id).stdout
    assert printed.strip() == f"{request_id}: superseded"
    shown = enroll("status", request_id).stdout
    assert "superseded: enrolled by a request that counts from" in shown
    assert scene.enrolled() == {(student, two)}


@pytest.mark.parametrize("as_file", ["csv", "json"])
def test_a_file_of_drops_is_counted_and_corrected(scene: Scene, as_file: str) -> None:
    pairs = [(student, course) for student in scene.students for course in scene.courses]
    rows = [",".join(pair) for pair in pairs]
    assert counts(scene.submit(scene.write("all.csv", "student_id,course_id", rows)))[
        "enrolled"
    ] == len(pairs)
    asked = [*pairs[:5], pairs[0], ("nobody", scene.courses[0])]
    if as_file == "json":
        path = scene.folder / "drops.jsonl"
        records = [{"student_id": s, "drop_course_ids": [c], "atomic": False} for s, c in asked]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        status = scene.submit(path, expect=REFUSED)
    else:
        drops = scene.write("drops.csv", "student_id,course_id", [",".join(p) for p in asked])
        status = scene.submit(drops, "--drop", "--batch-id", scene.students[0], expect=REFUSED)
        again = scene.submit(drops, "--drop", "--batch-id", scene.students[0], expect=REFUSED)
        assert "submit that file under a new batch id" in again["notices"][0]
    assert counts(status) == {"received": 7, "dropped": 5, "not_enrolled": 1, "rejected": 1}
    assert scene.enrolled() == set(pairs[5:])
    shown = scene.deployment.enroll("status", status["batch_id"], expect=REFUSED).stdout
    assert ["not", "enrolled", "1"] in [line.split() for line in shown.splitlines()]
    assert "already enrolled" not in shown
    if as_file == "csv":
        correct_and_submit(scene, status["batch_id"], pairs[5])


def correct_and_submit(scene: Scene, batch_id: str, pair: Pair) -> None:
    """Write the refused line to a file, put another student into it, and submit it."""
    refused = scene.folder / "refused.csv"
    done = scene.deployment.enroll("errors", batch_id, "--csv", refused)
    assert "the same options" not in done.stderr
    assert refused.read_text().startswith("refused_line,refused_code,refused_message,action,")
    (row,) = csv.DictReader(refused.read_text().splitlines())
    assert (row["student_id"], row["course_id"]) == ("nobody", scene.courses[0])
    corrected = refused.read_text().replace("nobody", pair[0]).replace(row["course_id"], pair[1])
    refused.write_text(corrected.replace(f"SIS id '{pair[0]}'", "SIS id"))
    assert counts(scene.submit(refused)) == {"received": 1, "dropped": 1}
    assert pair not in scene.enrolled()


def test_the_later_line_of_an_operation_list_wins_within_and_across_chunks(scene: Scene) -> None:
    chance = random.Random(7)
    expected: dict[Pair, str] = {}
    rows = []
    for _ in range(2 * MAX_CHUNK_RECORDS + 100):
        pair = chance.choice(scene.students), chance.choice(scene.courses)
        expected[pair] = chance.choice(["enroll", "drop", "", " Drop "])
        rows.append(",".join([*pair, expected[pair]]))
    header = "student_id,course_id,action"
    status = scene.submit(scene.write("changes.csv", header, rows))
    assert status["chunks"] >= 3
    assert status["books"]["rejected"] == 0
    enrolled = {pair for pair, action in expected.items() if action in ("", "enroll")}
    assert scene.enrolled() == enrolled
    drops = [",".join([*pair, "drop"]) for pair in expected]
    again = counts(scene.submit(scene.write("drops.csv", header, drops)))
    assert again["dropped"] == len(enrolled)
    assert scene.enrolled() == set()


def test_refused_lines_of_an_operation_list_keep_their_actions(scene: Scene) -> None:
    (student, *_), (one, two, _) = scene.students, scene.courses
    rows = [
        f"{student},{one},",
        f"nobody,{one},Drop",
        f"{student},{two},leave",
        f"{student},x,drop",
    ]
    header = "student_id,course_id,action"
    status = scene.submit(scene.write("changes.csv", header, rows), expect=REFUSED)
    assert counts(status) == {"received": 4, "enrolled": 1, "rejected": 3}
    refused = scene.folder / "refused.csv"
    done = scene.deployment.enroll("errors", status["batch_id"], "--csv", refused)
    assert "--drop" not in done.stderr
    found = list(csv.reader(refused.read_text().splitlines()))[1:]
    assert [line[3:] for line in found] == [row.split(",") for row in rows[1:]]
    assert [line[1] for line in found] == ["unknown_student", "invalid_request", "unknown_course"]


def test_reasons_and_times_of_lines_are_stored(scene: Scene) -> None:
    (student, *_), (one, two, _) = scene.students, scene.courses
    rows = [f"{student},{one},,", f"{student},{two},ill,2026-01-02T08:00:00+01:00"]
    scene.submit(scene.write("pairs.csv", "student_id,course_id,reason,as_of", rows))
    results = {r.enrolled_courses[0].sis_id: r for r in scene.client.results(student)}
    assert (results[one].reason, results[two].reason) == (None, "ill")
    assert results[two].moment == datetime(2026, 1, 2, 7, tzinfo=UTC)


@pytest.fixture
def front(scene: Scene) -> Iterator[httpx.Client]:
    with (
        serving(scene.deployment.environment, scene.folder / "http.log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def test_drops_arrive_over_http(scene: Scene, front: httpx.Client) -> None:
    (student, *_), (one, two, _) = scene.students, scene.courses
    wait = {"Prefer": "wait=20"}
    for course in (one, two):
        enrollment = {"student_id": student, "course_ids": [course]}
        assert front.post("/students/enroll", json=enrollment, headers=wait).status_code == 200
    path, query = f"/students/{student}/courses/{one}", {"reason": "moved", "request_id": student}
    first = front.delete(path, params=query, headers=wait)
    assert (first.status_code, first.json()["status"]) == (200, "dropped")
    assert (first.json()["reason"], first.json()["request_id"]) == ("moved", student)
    assert front.delete(path, params=query).json() == first.json()
    other = front.delete(f"/students/{student}/courses/{two}", params=query)
    assert other.status_code == 409
    unknown = front.delete(f"/students/{student}/courses/nothing", headers=wait)
    assert (unknown.status_code, unknown.json()["status"]) == (404, "rejected")
    body = f"student_id,course_id\n{student},{two}\n"
    csv_type = {"Content-Type": "text/csv"}
    accepted = front.post("/batches?drop=true", content=body, headers=csv_type).json()
    assert finished(scene.client, accepted["batch_id"]).books.dropped == 1
    assert scene.enrolled() == set()
