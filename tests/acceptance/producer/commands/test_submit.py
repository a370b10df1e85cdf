"""Batches that are watched, interrupted, resumed, refused in part and corrected."""

import gzip
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.routing import Queue
from producer.errors import BatchConflict
from producer.fields import MAX_CHUNK_RECORDS
from producer.schemas import Kind
from support.commands import INTERRUPTED, REFUSED
from support.databases import opened_database
from support.packages import encoded
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment
from worker.batches.repository import sum_chunks

pytestmark = pytest.mark.one_database

STUDENTS, COURSES = 400, 60
PAIRS = STUDENTS * COURSES


@pytest.fixture
def course(deployment: Deployment, client: EnrollmentClient) -> str:
    """Return the prefix of the ids of this test's own roster."""
    prefix = uuid.uuid4().hex[:8]
    enter_prefixed_roster(client, prefix)
    return prefix


def enter_prefixed_roster(client: EnrollmentClient, prefix: str) -> None:
    students = [f"{prefix}-S{n}" for n in range(STUDENTS)]
    enter_roster(client, students, [f"{prefix}-C{n}" for n in range(COURSES)])


def pairs(prefix: str) -> list[dict[str, Any]]:
    """Return a request for each pair, so that there are several chunks."""
    return [
        {"student_id": f"{prefix}-S{s}", "course_ids": [f"{prefix}-C{c}"]}
        for c in range(COURSES)
        for s in range(STUDENTS)
    ]


def write_pairs(path: Path, prefix: str) -> Path:
    rows = (f"{r['student_id']},{r['course_ids'][0]}\n" for r in pairs(prefix))
    path.write_text("student_sis_id,course_sis_id\n" + "".join(rows))
    return path


def wait_for_a_chunk(deployment: Deployment, batch_id: str) -> None:
    """Wait until a chunk is applied; the counts that clients read may be a second old."""
    with opened_database(deployment.database_url) as database:

        def is_applied() -> bool:
            with database.reading() as connection:
                return bool(sum_chunks(connection, [batch_id]))

        wait_for(is_applied)


def test_the_status_of_a_batch_is_true_at_every_moment(
    client: EnrollmentClient, course: str
) -> None:
    batch_id = uuid.uuid4().hex
    states = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            status = client.batch(batch_id, refusals=False)
            books = status.books
            done = books.enrolled + books.already_enrolled + books.rejected
            assert books.received == done + books.not_applied
            assert status.requests_applied <= status.requests
            assert status.chunks is None or status.chunks_applied <= status.chunks
            states.append(status.state)

    watcher = threading.Thread(target=watch)
    watcher.start()
    client.submit_batch(Kind.ENROLLMENTS, pairs(course), batch_id=batch_id)
    wait_for(lambda: client.batch(batch_id).state == "done")
    over.set()
    watcher.join()
    order = ["unknown", "queued", "running", "done"]
    assert states == sorted(states, key=order.index)
    status = client.batch(batch_id)
    assert status.books.enrolled == PAIRS
    assert (status.chunks_missing, status.seconds_left) == (0, None)
    assert status.rows_per_second is not None


def test_the_same_file_under_the_same_batch_id_is_not_published_again(
    client: EnrollmentClient, course: str
) -> None:
    name = f"night of {course}"
    first = client.submit_batch(Kind.ENROLLMENTS, pairs(course), batch_id=name)
    assert first.published == first.chunks == -(-PAIRS // MAX_CHUNK_RECORDS)
    wait_for(lambda: client.batch(name).state == "done")
    status = client.batch(name)
    assert client.submit_batch(Kind.ENROLLMENTS, pairs(course), batch_id=name).published == 0
    assert client.batch(name) == status
    with pytest.raises(BatchConflict, match="different records"):
        client.submit_batch(Kind.ENROLLMENTS, pairs(course)[::-1], batch_id=name)
    with pytest.raises(BatchConflict, match="holds enrollments, not students"):
        client.submit_batch(Kind.STUDENTS, [{"sis_id": "S"}], batch_id=name)
    assert client.batch(name) == status


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_interrupted_submit_is_resumed(
    deployment: Deployment,
    client: EnrollmentClient,
    course: str,
    tmp_path: Path,
    pack: Callable[[bytes], bytes],
) -> None:
    path = write_pairs(tmp_path / "pairs.csv", course)
    path.write_bytes(pack(path.read_bytes()))
    process = deployment.start_enroll("submit", "--max-queued", "1", path)
    assert process.stderr is not None
    batch_id = process.stderr.readline().split("batch ")[1].split()[0]
    wait_for_a_chunk(deployment, batch_id)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, err
    assert "--resume" in err
    assert "Traceback" not in err
    status = json.loads(deployment.enroll("submit", "--resume", path, "--json").stdout)
    assert (status["batch_id"], status["state"]) == (batch_id, "done")
    assert status["books"]["enrolled"] == status["books"]["received"] == PAIRS
    again = json.loads(deployment.enroll("submit", path, "--json").stdout)
    assert again["batch_id"] != batch_id
    assert again["books"]["already_enrolled"] == PAIRS


def write_canvas(folder: Path, prefix: str) -> list[Path]:
    """Write the files of an export of Canvas, each by itself."""
    files = {
        "users.csv": [
            "user_id,login_id,status",
            *(f"{prefix}-S{n},l{n},active" for n in range(STUDENTS)),
        ],
        "sections.csv": [
            "section_id,course_id,name,status",
            *(f"{prefix}-C{n},K,Logic,active" for n in range(COURSES)),
        ],
        "enrollments.csv": [
            "section_id,user_id,role,status",
            *(f"{r['course_ids'][0]},{r['student_id']},student,active" for r in pairs(prefix)),
        ],
    }
    for name, lines in files.items():
        (folder / name).write_bytes(encoded(lines))
    return [folder / name for name in files]


def killed_submit(deployment: Deployment, paths: list[Path]) -> str:
    """Kill a submission of files when a part of their enrollments is applied; return its id."""
    process = deployment.start_enroll("submit", "--max-queued", "1", *paths)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    line = next(line for line in lines if ":enrollments" in line)
    batch_id = line.split("batch ")[1].split()[0].rstrip(".,:")
    wait_for_a_chunk(deployment, batch_id)
    process.kill()
    process.communicate(timeout=60)
    return batch_id.removesuffix(":enrollments")


def ids_of(printed: str) -> list[str]:
    """Return the ids of the batches that a command printed as JSON."""
    return [json.loads(line)["batch_id"] for line in printed.splitlines()]


def test_files_that_were_submitted_together_are_resumed_in_any_order(
    deployment: Deployment, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex[:8]
    paths = write_canvas(tmp_path, prefix)
    own_id = killed_submit(deployment, paths)
    done = deployment.enroll("submit", "--resume", *reversed(paths), "--json")
    names = ("students", "sections", "enrollments")
    assert ids_of(done.stdout) == [f"{own_id}:{name}" for name in names]
    books = json.loads(done.stdout.splitlines()[-1])["books"]
    assert books["enrolled"] == books["received"] == PAIRS
    again = deployment.enroll("submit", "--resume", *paths, "--json")
    assert own_id not in again.stdout
    assert json.loads(again.stdout.splitlines()[-1])["books"]["already_enrolled"] == PAIRS


def test_files_of_which_one_was_changed_are_another_submission(
    deployment: Deployment, tmp_path: Path
) -> None:
    prefix = uuid.uuid4().hex[:8]
    paths = write_canvas(tmp_path, prefix)
    own_id = killed_submit(deployment, paths)
    with paths[-1].open("a") as file:
        print(f"{prefix}-C0,{prefix}-S0,teacher,active", file=file)
    done = deployment.enroll("submit", "--resume", *paths, "--json")
    assert own_id not in done.stdout
    books = json.loads(done.stdout.splitlines()[-1])["books"]
    assert books["enrolled"] + books["already_enrolled"] == PAIRS


def test_a_batch_that_the_broker_lost_is_completed_under_its_id(
    fresh_deployment: Deployment,
) -> None:
    prefix = "lost"
    with (
        EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client,
        Redis.from_url(fresh_deployment.broker_url) as redis,
    ):
        enter_prefixed_roster(client, prefix)
        os.kill(fresh_deployment.process.pid, signal.SIGSTOP)
        client.submit_batch(Kind.ENROLLMENTS, pairs(prefix), batch_id="b", resume=False)
        redis.delete(Queue.BATCHES.value)
        os.kill(fresh_deployment.process.pid, signal.SIGCONT)
        missing = client.batch("b")
        assert missing.state in ("queued", "running")
        assert missing.chunks_missing > 0
        client.submit_batch(Kind.ENROLLMENTS, pairs(prefix), batch_id="b")
        wait_for(lambda: client.batch("b").state == "done")
        books = client.batch("b").books
        assert books.received == books.enrolled + books.already_enrolled == PAIRS


def test_a_full_queue_makes_the_submitter_wait(fresh_deployment: Deployment) -> None:
    made = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal made
        while made < 12 * MAX_CHUNK_RECORDS:
            made += 1
            yield {"sis_id": f"S{made}"}

    with (
        EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client,
        Redis.from_url(fresh_deployment.broker_url) as redis,
    ):
        os.kill(fresh_deployment.process.pid, signal.SIGSTOP)
        submitter = threading.Thread(
            target=lambda: client.submit_batch(
                Kind.STUDENTS, endless(), batch_id="b", resume=False, max_queued=3
            )
        )
        submitter.start()
        wait_for(lambda: redis.llen(Queue.BATCHES.value) == 3)
        time.sleep(0.5)
        assert redis.llen(Queue.BATCHES.value) == 3
        assert made <= 7 * MAX_CHUNK_RECORDS
        os.kill(fresh_deployment.process.pid, signal.SIGCONT)
        submitter.join()
        wait_for(lambda: client.batch("b").state == "done")
        assert client.batch("b").books.upserted == 12 * MAX_CHUNK_RECORDS


def test_refused_lines_are_corrected_and_submitted_again(
    deployment: Deployment, client: EnrollmentClient, course: str, tmp_path: Path
) -> None:
    path = tmp_path / "term.csv"
    path.write_text(
        "who;module;term;note\n"
        f"{course}-S1;{course};C1;fine\n"
        f"{course}-S2;{course};X1;mistyped\n"
        f'nobody;{course};C2;"a;b"\n'
        ";;;empty\n"
        f"{course}-S3;{course}\n"
    )
    maps = ["--map", "student_sis_id={who}", "--map", "course_sis_id={module}-{term}"]
    status = json.loads(deployment.enroll("submit", path, *maps, "--json", expect=REFUSED).stdout)
    batch_id = status["batch_id"]
    listed = deployment.enroll("errors", batch_id, expect=REFUSED).stdout
    assert all(word in listed for word in ("unknown_course", "unknown_student", "invalid_request"))
    refused = tmp_path / "refused.csv"
    deployment.enroll("errors", batch_id, "--csv", refused)
    lines = refused.read_text().splitlines()
    assert lines[0] == "refused_line;refused_code;refused_message;who;module;term;note"
    assert lines[1].startswith("3;unknown_course;no course has")
    assert lines[1].endswith(f";{course}-S2;{course};X1;mistyped")
    assert lines[2].startswith("4;unknown_student;")
    assert lines[2].endswith(f';nobody;{course};C2;"a;b"')
    assert lines[3].startswith("5;invalid_request;")
    assert lines[3].endswith(";;;;empty")
    assert lines[4].startswith('6;invalid_request;"the line has 2 cells,')
    assert lines[4].endswith(f";{course}-S3;{course}")
    mended = lines[0] + "\n" + lines[1].replace("X1", "C1") + "\n"
    refused.write_text(mended + lines[2].replace("nobody", f"{course}-S4") + "\n")
    status = json.loads(deployment.enroll("submit", refused, *maps, "--json").stdout)
    assert status["books"]["enrolled"] == 2
    assert "No refusals" in deployment.enroll("errors", status["batch_id"]).stdout


def test_likely_causes_are_shown_when_the_batch_is_done_and_on_request(
    deployment: Deployment, client: EnrollmentClient, tmp_path: Path
) -> None:
    number = uuid.uuid4().int % 10**12
    enter_roster(client, [f"00{number:012}", f"{number:012}7"], [f"LOGIC-{number}"])
    path = tmp_path / "pairs.csv"
    path.write_text(
        "student_sis_id,course_sis_id\n"
        f"00{number:012}.0,LOGIC-{number}\n"
        f"{number:012}7,logic-{number}\n"
        f"{number:012}7,LOGIC\u200b-{number}\n"
        f"#N/A,LOGIC-{number}\n"
    )
    batch_id = uuid.uuid4().hex
    shown = deployment.enroll("submit", path, "--batch-id", batch_id, expect=REFUSED).stdout
    asked = deployment.enroll("errors", batch_id, expect=REFUSED).stdout
    for words in (shown, asked):
        assert "Likely causes" in words
        joined = " ".join(words.split())
        for refused, cause, meant in (
            (
                f"00{number:012}.0",
                "unknown_student: 1 id probably got .0 at the end",
                f"00{number:012}",
            ),
            (
                f"logic-{number}",
                "unknown_course: 1 id probably changed between upper and lower case",
                f"LOGIC-{number}",
            ),
            (
                f"LOGIC\\u200b-{number}",
                "unknown_course: 1 id probably gained or lost spaces or invisible characters",
                f"LOGIC-{number}",
            ),
        ):
            assert f"{cause}: '{refused}' → '{meant}' in the roster" in joined
        assert "unknown_student: a text such as '#N/A' stands in place of missing ids" in joined
    lines = deployment.enroll("errors", batch_id, "--json", expect=REFUSED).stdout.splitlines()
    groups = [json.loads(line) for line in lines]
    again = deployment.enroll("submit", path, "--batch-id", batch_id, "--json", expect=REFUSED)
    assert json.loads(again.stdout)["refusals"] == groups
    causes = {c["causes"][0]: c for group in groups for c in group["likely_causes"]}
    assert set(causes) == {"decimals", "missing_value", "letter_case", "spaces"}
    assert causes["decimals"]["examples"][0]["meant"] == [f"00{number:012}"]


def test_a_repeat_after_a_correction_of_the_roster_says_what_to_do(
    deployment: Deployment, client: EnrollmentClient, tmp_path: Path
) -> None:
    name = uuid.uuid4().hex[:8]
    path, refused = tmp_path / "pairs.csv", tmp_path / "refused.csv"
    path.write_bytes(f"\ufeffstudent_sis_id;course_sis_id\r\n{name}-S;{name}-C\r\n".encode())
    again: list[str | Path] = ["submit", path, "--batch-id", name, "--json"]
    first = json.loads(deployment.enroll(*again, expect=REFUSED).stdout)
    assert first["notices"] == []
    assert first["form"]["bom"]
    enter_roster(client, [f"{name}-S"], [f"{name}-C"])
    repeated = deployment.enroll(*again, expect=REFUSED)
    (notice,) = json.loads(repeated.stdout)["notices"]
    assert f"enroll errors {name} --csv refused.csv" in notice
    assert notice in " ".join(repeated.stderr.split())
    for option in ("--csv", "--spreadsheet"):
        deployment.enroll("errors", name, option, refused)
        assert refused.read_bytes().startswith("\ufeffrefused_line;refused_code;".encode())
        books = json.loads(deployment.enroll("submit", refused, "--json").stdout)["books"]
        assert books["enrolled" if option == "--csv" else "already_enrolled"] == 1


def test_refused_requests_are_written_as_json_lines(
    deployment: Deployment, client: EnrollmentClient, course: str, tmp_path: Path
) -> None:
    good = {"student_id": f"{course}-S1", "course_ids": [f"{course}-C1"]}
    bad = {"student_id": f"{course}-S1", "course_ids": [f"{course}-C1", "X", "Y"], "atomic": True}
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (good, bad)) + "{\n")
    status = json.loads(deployment.enroll("submit", path, "--json", expect=REFUSED).stdout)
    csv_file, jsonl_file = tmp_path / "refused.csv", tmp_path / "refused.jsonl"
    where: list[str | Path] = ["--csv", csv_file, "--jsonl", jsonl_file]
    deployment.enroll("errors", status["batch_id"], *where)
    again, broken = jsonl_file.read_text().splitlines()
    assert broken == "{", "A line that is no JSON comes back as it was."
    assert json.loads(again) == {name: value for name, value in bad.items() if name != "atomic"}
    lines = csv_file.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["refused_line", "2", "3"]
    assert "'X'" in lines[1]
    assert "'Y'" in lines[1]
    deployment.enroll("errors", "nobody's batch", expect=REFUSED)
    deployment.enroll("errors", "nobody's batch", "--csv", tmp_path / "none.csv", expect=REFUSED)
    assert not (tmp_path / "none.csv").exists()


def test_a_submitter_waits_for_an_unavailable_broker(
    fresh_deployment: Deployment, tmp_path: Path
) -> None:
    prefix = "away"
    with (
        EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client,
        Redis.from_url(fresh_deployment.broker_url) as redis,
    ):
        enter_prefixed_roster(client, prefix)
        broker = int(redis.info("server")["process_id"])
        path = write_pairs(tmp_path / "pairs.csv", prefix)
        submit = fresh_deployment.start_enroll("submit", "--max-queued", "1", path, "--json")
        assert submit.stderr is not None
        batch_id = submit.stderr.readline().split("batch ")[1].split()[0]
        wait_for_a_chunk(fresh_deployment, batch_id)
        os.kill(broker, signal.SIGSTOP)
        try:
            assert "Waiting; the submission continues" in submit.stderr.readline()
        finally:
            os.kill(broker, signal.SIGCONT)
        out, err = submit.communicate(timeout=120)
        assert submit.returncode == 0, err
        assert "The outage is over" in err
        books = json.loads(out)["books"]
        assert books["received"] == books["enrolled"] == PAIRS
