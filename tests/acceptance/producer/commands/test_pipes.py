"""The command in a pipe, a log, and on a terminal: what comes in, and what is written where."""

import gzip
import json
import os
import pty
import re
import shlex
import subprocess
import uuid
from pathlib import Path

import pytest

from support.commands import ENROLL, GOOD, REFUSED, USAGE, run_program
from support.prepared import Prepared
from support.workers import Deployment

# What is read and printed does not depend on the worker's database.
pytestmark = pytest.mark.one_database

PAIRS = "student_sis_id,course_sis_id\n"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
COLOR = re.compile(r"\x1b\[[0-9;]*(?:3|4|9|10)[0-7][0-9;]*m")


def roster(deployment: Deployment, students: int) -> tuple[list[str], str]:
    """Submit a test's own students and course through pipes; return their SIS ids."""
    prefix = uuid.uuid4().hex[:8]
    names = [f"{prefix}-S{n}" for n in range(students)]
    rows = "".join(f"{name},Ada\n" for name in names)
    deployment.enroll("submit", "-", given=f"sis_id,name\n{rows}")
    record = json.dumps({"sis_id": prefix, "title": "Logic"})
    deployment.enroll("submit", "-", "--kind", "courses", given=f"{record}\n")
    return names, prefix


# --- Standard input -------------------------------------------------------------------------


def test_a_pipe_is_submitted_and_its_refused_lines_are_named(deployment: Deployment) -> None:
    # More than the head that is checked, and several chunks.
    names, course = roster(deployment, 12_000)
    rows = "".join(f"{name},{course}\n" for name in names)
    done = deployment.enroll(
        "submit",
        "-",
        "--json",
        given=f"{PAIRS}{rows}{names[0]},X\n",
        expect=REFUSED,
    )
    status = json.loads(done.stdout)
    assert status["books"]["enrolled"] == len(names)
    assert status["refusals"][0]["first_lines"] == [len(names) + 2]
    assert "Submitting standard input as batch" in done.stderr


def test_json_lines_are_read_from_a_pipe(deployment: Deployment) -> None:
    (name,), course = roster(deployment, 1)
    request = json.dumps({"student_id": name, "course_ids": [course]})
    done = deployment.enroll("submit", "-", "--json", given=f"{request}\n")
    assert json.loads(done.stdout)["books"]["enrolled"] == 1


def test_standard_input_is_mixed_with_files_and_rosters_go_first(
    deployment: Deployment, tmp_path: Path
) -> None:
    (name,), course = roster(deployment, 1)
    (tmp_path / "students.csv").write_text(f"sis_id,name\n{name}-new,Ada\n")
    arguments = ("submit", "-", tmp_path / "students.csv", "--json")
    done = deployment.enroll(*arguments, given=f"{PAIRS}{name}-new,{course}\n")
    statuses = [json.loads(line) for line in done.stdout.splitlines()]
    assert [status["kind"] for status in statuses] == ["students", "enrollments"]
    assert statuses[1]["books"]["enrolled"] == 1


def test_the_same_input_under_the_same_batch_id_is_applied_once(deployment: Deployment) -> None:
    names, course = roster(deployment, 3)
    given = PAIRS + "".join(f"{name},{course}\n" for name in names)
    arguments = ("submit", "-", "--batch-id", f"night of {course}", "--json")
    first, again = (json.loads(deployment.enroll(*arguments, given=given).stdout) for _ in "12")
    assert first == again
    messages = deployment.enroll(*arguments, "--resume", given=given).stderr
    assert "1 of the 1 chunks had already arrived." in messages


def test_a_process_substitution_is_read_once_and_whole(
    deployment: Deployment, tmp_path: Path
) -> None:
    (name,), course = roster(deployment, 1)
    (tmp_path / "pairs.gz").write_bytes(gzip.compress(f"{PAIRS}{name},{course}\n".encode()))
    command = f"{shlex.join(ENROLL)} submit --json <(gzip -dc {tmp_path}/pairs.gz)"
    done = run_program("bash", "-c", command, env=deployment.environment)
    assert done.returncode == GOOD, done.stderr
    assert json.loads(done.stdout)["books"]["enrolled"] == 1


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("-", "-"), PAIRS, "give - only once"),
        (("-", "--resume"), PAIRS, "--resume finds a batch by its file, but - is not"),
        (("-",), "", "standard input is empty; submit a CSV file with a header line"),
        (("-",), b"%PDF-1.7", "standard input is a PDF document"),
        (("-",), b"a\x00b", "standard input is a binary file"),
        (("-",), "a,b\n1,2\n", "standard input: the first line does not show"),
    ],
)
def test_an_unreadable_pipe_is_reported_with_its_remedy(
    deployment: Deployment, arguments: tuple[str, ...], given: str | bytes, message: str
) -> None:
    assert message in deployment.enroll("submit", *arguments, given=given, expect=USAGE).stderr


def test_a_closed_standard_input_is_reported(deployment: Deployment) -> None:
    done = run_program(
        "bash", "-c", f"{shlex.join(ENROLL)} submit - <&-", env=deployment.environment
    )
    assert (done.returncode, "Traceback" in done.stderr) == (USAGE, False)
    assert "Standard input is closed; pipe the records into the command." in done.stderr


# --- Logs and terminals ---------------------------------------------------------------------


def test_without_a_terminal_progress_is_a_plain_line_now_and_then(deployment: Deployment) -> None:
    names, course = roster(deployment, 12_000)
    rows = [f"{name},{course}\n".encode() for name in names]
    with Prepared(
        ["-m", "producer", "submit", "-"],
        # Forced colors must not make the bar appear in a log.
        env=deployment.environment | {"FORCE_COLOR": "1", "NO_COLOR": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as submit:  # fmt: skip
        assert submit.stdin is not None
        assert submit.stderr is not None
        submit.stdin.write(b"".join([PAIRS.encode(), *rows[:-1]]))
        submit.stdin.flush()
        assert b"Submitting " in submit.stderr.readline()
        # The pipe stays open, so the line is not printed because the input ended.
        early = submit.stderr.readline().decode()
        _, rest = submit.communicate(rows[-1])
    assert submit.returncode == GOOD
    assert re.fullmatch(
        r"standard input: [\d,]+ of [\d,]+ rows applied, 0 rejected, [\d,]+ rows/s.*\n", early
    )
    last = rest.decode().splitlines()[-1]
    assert last.startswith("standard input: 12,000 of 12,000 rows applied, 0 rejected, ")
    assert CONTROL.search(early + rest.decode()) is None


def on_a_terminal(deployment: Deployment, *arguments: str, **environment: str) -> str:
    """Return what is written to a terminal, standard error included."""
    ours, theirs = pty.openpty()
    process = Prepared(
        ["-m", "producer", *arguments],
        env=deployment.environment | {"TERM": "xterm-256color"} | environment,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    sent = b""
    try:
        while piece := os.read(ours, 4096):
            sent += piece
    except OSError:
        pass  # A terminal reports its end with this error.
    finally:
        os.close(ours)
    process.wait(60)
    return sent.decode()


def test_the_variable_no_color_turns_colors_off_on_a_terminal(
    deployment: Deployment, tmp_path: Path
) -> None:
    (name,), course = roster(deployment, 1)
    path = tmp_path / "pairs.csv"
    path.write_text(f"{PAIRS}{name},{course}\n{name},X\n")
    for command in (["submit", str(path)], ["results", name], ["status", "nobody"]):
        assert COLOR.search(on_a_terminal(deployment, *command))
        plain = on_a_terminal(deployment, *command, NO_COLOR="1")
        assert not COLOR.search(plain)
        assert not COLOR.search(on_a_terminal(deployment, *command, TERM="dumb"))


def test_a_dumb_terminal_gets_lines_and_no_bar(deployment: Deployment, tmp_path: Path) -> None:
    (name,), course = roster(deployment, 1)
    path = tmp_path / "pairs.csv"
    path.write_text(f"{PAIRS}{name},{course}\n")
    shown = on_a_terminal(deployment, "submit", str(path), TERM="dumb")
    assert "pairs.csv: 1 of 1 rows applied" in shown
    assert CONTROL.search(shown.replace("\r\n", "\n")) is None


def test_ids_that_look_like_markup_are_printed_as_they_are(
    deployment: Deployment, tmp_path: Path
) -> None:
    (name,), course = roster(deployment, 1)
    strange = f"[red]{course}[/blue]:warning:"
    path = tmp_path / "[bold]pairs.csv"
    path.write_text(f"{PAIRS}{name},{strange}\n")
    arguments = ("submit", path, "--batch-id", strange)
    done = deployment.enroll(*arguments, given="", expect=REFUSED)
    assert strange in done.stdout.splitlines()[0]
    assert f"'{strange}'" in done.stdout
    assert str(path) in done.stderr
    assert f"the id {strange} is known" in deployment.enroll(
        "status", f"{strange}?", given="", expect=REFUSED
    ).stdout.replace("?", "")


# --- What cannot be written -----------------------------------------------------------------


@pytest.mark.parametrize("file", ["/nowhere/refused.csv", "/dev/full"])
def test_an_unwritable_file_is_reported(deployment: Deployment, file: str) -> None:
    (name,), course = roster(deployment, 1)
    given = f"{PAIRS}{name},X\n"
    deployment.enroll("submit", "-", "--batch-id", course, given=given, expect=REFUSED)
    message = deployment.enroll("errors", course, "--csv", file, given="", expect=USAGE).stderr
    assert "No such file or directory" in message or "No space left on device" in message


def test_a_reader_that_closes_the_pipe_ends_the_command_silently(deployment: Deployment) -> None:
    names, course = roster(deployment, 2_000)
    given = PAIRS + "".join(f"{name},X\n" for name in names)
    deployment.enroll("submit", "-", "--batch-id", course, given=given, expect=REFUSED)
    command = f"{shlex.join(ENROLL)} errors {course} --jsonl - | head -n 1"
    done = run_program("bash", "-c", command, env=deployment.environment)
    assert json.loads(done.stdout)["student_id"] == names[0]
    assert "rror" not in done.stderr
