"""Every command of the README is run, and its transcript is what really comes out."""

import gzip
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from producer.schemas import Code
from support.commands import clean_environment, run_enroll, run_program
from support.http import serving
from support.paths import BIN, ROOT
from support.repository_copy import copy_of_repository
from support.requirements import require_program
from support.workers import Deployment, running_worker

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def transcript(block: str) -> list[tuple[str, str]]:
    """Each command with what the README says that it prints."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def normal(text: str) -> str:
    """Ids and moments differ each time; trailing blanks mean nothing."""
    text = re.sub(r"[0-9a-f]{32}", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z)?", "MOMENT", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_the_transcript_is_true(fresh_deployment: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    environment = fresh_deployment.environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    for command, expected in (step for block in blocks("console") for step in transcript(block)):
        words = shlex.split(command)
        if words[0] == "cat":
            file = folder / words[1]
            if file.exists():
                assert normal(file.read_text()) == normal(expected)
            file.write_text(expected)
            continue
        done = run_program(*words, env=environment, cwd=folder)
        assert normal(done.stdout) == normal(expected), command + done.stderr


def test_the_python_example_runs(fresh_deployment: Deployment, tmp_path: Path) -> None:
    (example,) = blocks("python")
    done = run_program(
        sys.executable, "-c", example, env=fresh_deployment.environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "unknown_student" in done.stdout


@pytest.mark.timeout(400)
def test_the_lines_without_make_show_the_demo(tmp_path: Path) -> None:
    (script,) = (block for block in blocks("sh") if "venv" in block)
    copy_of_repository(tmp_path)
    done = run_program("sh", "-euc", script, env=clean_environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "What to type next" in done.stdout


def test_the_worker_starts_as_the_readme_says(
    broker_url: str, empty_postgres_url: str, tmp_path: Path
) -> None:
    (script,) = (block for block in blocks("sh") if "celery" in block)
    lines = [line.split("#")[0].strip() for line in script.splitlines()]
    settings = {"ENROLL_BROKER_URL": broker_url, "ENROLL_DATABASE_URL": empty_postgres_url}
    assert {line.split("=")[0] for line in lines if line.startswith("export")} == {
        f"export {name}" for name in settings
    }
    environment = os.environ | settings
    own = [sys.executable, "-m", "worker.migrate"]
    for command in (own, [str(BIN / "alembic"), "upgrade", "head"]):
        subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    (start,) = (shlex.split(line) for line in lines if line.startswith("celery"))
    assert start[:4] == ["celery", "-A", "worker", "worker"]
    with running_worker(broker_url, empty_postgres_url, tmp_path / "log", *start[4:]):
        pass  # It answers a lookup, or the fixture fails.


def test_the_calls_of_curl_are_answered(fresh_deployment: Deployment, tmp_path: Path) -> None:
    require_program("curl")
    files = {
        words[1]: expected
        for block in blocks("console")
        for command, expected in transcript(block)
        if (words := shlex.split(command))[0] == "cat"
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    environment = fresh_deployment.environment
    run_enroll(environment, "submit", "students.csv", "courses.csv", cwd=tmp_path)
    (script,) = (block for block in blocks("sh") if "curl" in block)
    said = []
    with serving(environment, tmp_path / "http.log") as (url, _):
        for line in script.splitlines():
            words = shlex.split(line.replace("http://localhost:8000", url))
            done = run_program(*words, cwd=tmp_path)
            assert done.returncode == 0, done.stdout + done.stderr
            said.append(done.stdout)
            time.sleep(1)  # A person reads what it said.
    assert '"status":"enrolled"' in said[1]
    assert '"LOGIC-1"' in said[2]
    assert '"state":"done"' in said[4]
    assert "5,S2,LOGIK-1,unknown_course" in said[5]


(SHELL_LINES,) = (block.splitlines() for block in blocks("sh") if "completion" in block)


def test_the_line_with_a_pipe_submits(fresh_deployment: Deployment, tmp_path: Path) -> None:
    pairs = "student_sis_id,course_sis_id\nS1,C1\n"
    (tmp_path / "enrollments.csv.gz").write_bytes(gzip.compress(pairs.encode()))
    (line,) = (line for line in SHELL_LINES if "zcat" in line)
    done = run_program(
        "sh",
        "-c",
        line,
        env=fresh_deployment.environment | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    assert "no student has the SIS id 'S1'" in done.stdout


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        (["bash", "--norc"], "{line}\ncomplete -p enroll"),
        (["zsh", "-f"], "autoload -U compinit; compinit -D -u\n{line}\nprint $_comps[enroll]"),
        (
            ["fish", "--no-config"],
            "{line}\nsource ~/.config/fish/completions/*\ncomplete -C 'enroll su'",
        ),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_the_line_for_completion_works(shell: list[str], script: str, tmp_path: Path) -> None:
    require_program(shell[0])
    (tmp_path / ".config/fish/completions").mkdir(parents=True)
    (line,) = (line for line in SHELL_LINES if f"completion {shell[0]}" in line)
    done = run_program(
        *shell,
        "-c",
        script.format(line=line.partition("#")[0]),
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = "submit\t" if shell[0] == "fish" else "_enroll_completion"
    assert expected in done.stdout


def test_every_code_is_explained() -> None:
    integration = (ROOT / "docs" / "integration.md").read_text(encoding="utf-8")
    assert all(f"| `{code.value}` |" in integration for code in Code)


def test_every_setting_is_explained() -> None:
    from worker.settings import PREFIX, Settings  # noqa: PLC0415

    assert all(f"| `{PREFIX}{name.upper()}` |" in README for name in Settings.model_fields)
