"""Every command that README and docs show is run, and its transcript is what really comes out."""

import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from producer.contract.broker_url import parse_sentinel_url
from producer.web.tokens import read_tokens
from support.commands import clean_environment, run_enroll, run_program
from support.http import serving
from support.paths import BIN, ROOT
from support.repository_copy import copy_of_repository
from support.requirements import require_program
from support.terminals import Terminal
from support.transcripts import (
    DOCUMENTS,
    PAGES,
    Step,
    all_blocks,
    blocks,
    normal,
    play,
    reader,
    steps_of,
    without_colors,
)
from support.waiting import wait_for
from support.workers import Deployment, running_worker
from worker.database.engine import make_engine

EXAMPLES = ROOT / "docs" / "examples"

RUN_BY = {
    "make demo": "test_the_readme_works_in_reading_order",
    "python3 -m venv .venv": "test_the_readme_works_in_reading_order",
    ".venv/bin/enroll up": "test_the_readme_works_in_reading_order",
    ". .venv/bin/activate": "test_the_readme_works_in_reading_order",
    "zcat enrollments.csv.gz": "test_the_command_with_a_pipe_submits",
    'eval "$(enroll completion bash)"': "test_the_command_for_completion_works",
    "pip install .": "test_wheel.py",
    "pip install '.[http]'": "test_wheel.py",
    "pip install -c constraints.txt '.[http,worker]'": "test_wheel.py",
    "pip wheel --no-deps": "test_wheel.py",
    "curl --fail-with-body": "test_the_curl_commands_work",
    "token=$(openssl rand -hex 32)": "test_a_token_is_made_as_the_page_says",
    "npm install redis": "test_foreign.py",
    "for user in operator decider producer submitter worker": "test_access.py",
    "cd docs/operations": "test_least_privilege.py",
    "pip install '.[worker]'": "test_the_worker_starts_as_the_page_says",
    "celery -A worker worker -Q batches": "test_a_worker_for_some_queues_starts_as_the_page_says",
    "pip install flower": "worker/monitoring/test_monitoring.py",
    "make test": "test_the_targets_of_the_makefile_are_those_that_the_pages_name",
    "make help": "test_the_targets_of_the_makefile_are_those_that_the_pages_name",
    "enroll schema asyncapi": "test_foreign.py",
    "alembic revision --rev-id": "test_a_migration_begins_as_the_page_says",
    "python -m build": "test_wheel.py",
    "sed -i -E 's,([~&])": "test_access.py",
    "export ENROLL_BROKER_URL='sentinel://": "test_a_url_may_name_several_servers",
    "export ENROLL_DATABASE_URL='postgresql://enrollment@/": "test_a_url_may_name_several_servers",
    "export ENROLL_DATABASE_URL='postgresql://enrollment@pgbouncer": "test_a_url_may_name_a_pooler",
}
"""How each block of shell in README and docs begins, and what runs it: a test here, or a file."""


def shell_block(beginning: str) -> str:
    """Return the only block of shell in all pages that begins with this text."""
    found = [b for name in DOCUMENTS for b in blocks(name, "sh") if b.startswith(beginning)]
    assert len(found) == 1, beginning
    return found[0]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_of_shell_is_run_by_a_test(name: str) -> None:
    for block in blocks(name, "sh"):
        runners = {test for beginning, test in RUN_BY.items() if block.startswith(beginning)}
        assert len(runners) == 1, block
        (runner,) = runners
        assert runner in globals() or (Path(__file__).parent / runner).exists()


def test_every_session_is_run_by_a_test() -> None:
    assert {name for name in DOCUMENTS if blocks(name, "console")} == set(PAGES)


def test_every_program_in_python_is_run_by_a_test() -> None:
    run_by = {
        "README.md": "test_the_readme_works_in_reading_order",
        "docs/python.md": "test_the_readme_works_in_reading_order",
        "docs/frameworks.md": "test_frameworks.py",
        "docs/testing.md": "producer/testing/test_plugin.py",
    }
    assert {name for name in DOCUMENTS if blocks(name, "python")} == run_by.keys()
    for runner in run_by.values():
        assert runner in globals() or (Path(__file__).parent / runner).exists()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_transcripts_are_true(tmp_path: Path) -> None:
    false: list[str] = []

    def see(step: Step, printed: str) -> None:
        now = without_colors(printed)
        if normal(now) != normal(step.expected):
            false.append(f"{step.page}: {step.command}\n{now}")

    with reader(tmp_path) as made:
        play(made, see)
    assert false == [], "renew them: make pictures"


@pytest.mark.parametrize(
    "installed",
    [True, pytest.param(False, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
    ids=["from the first command", "from an empty checkout"],
)
def test_the_readme_works_in_reading_order(installed: bool, tmp_path: Path) -> None:
    """A reader types every block, the server's in one terminal and the others in a second one."""
    checkout = copy_of_repository(tmp_path / "checkout")
    if installed:
        (checkout / ".venv").symlink_to(BIN.parent)
    environment = clean_environment() | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "COLUMNS": "200",
    }
    with Terminal(checkout, environment) as second, ExitStack() as server:
        for language, block in all_blocks("README.md"):
            if block.startswith(("make", "python3 -m venv")):
                if not installed:
                    shown = second.type(block.replace("make test", "make --dry-run test"))
                    assert "What to type next" in shown
            elif block.startswith(".venv/bin/enroll up"):
                server.enter_context(running_up(block, checkout, environment))
            elif language == "console":
                for step in steps_of("README.md", block):
                    assert normal(second.type(step.command)) == normal(step.expected), step
            elif language == "python":
                assert second.type(f"python - <<'END'\n{block}END") == told_output(block)
            else:
                second.type(block)
        (block,) = blocks("docs/python.md", "python")  # The page continues in the same terminal.
        shown = second.type(f"python - <<'END'\n{block}END")
        state, _, rest = shown.partition("\n")
        assert state in {"queued", "running", "done"}
        assert rest == told_output(block)


@contextmanager
def running_up(block: str, checkout: Path, environment: dict[str, str]) -> Iterator[None]:
    """Type `enroll up` in a terminal of its own, and leave it with Ctrl-C in the end."""
    with subprocess.Popen(
        ["/bin/bash", "-c", f"exec {block}"],
        cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as up:  # fmt: skip
        try:
            assert up.stdout is not None
            outputs = []
            while "Ctrl-C" not in (line := up.stdout.readline()):
                outputs.append(line)
                assert line, outputs
            yield
        finally:
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=60)


def told_output(block: str) -> str:
    """Return what the comments of a program say that it prints."""
    outputs = re.findall(r"^ *print\(.*\)  # (.+)$", block, flags=re.MULTILINE)
    return "".join(f"{line}\n" for line in outputs)


def test_the_targets_of_the_makefile_are_those_that_the_pages_name() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {
        t
        for text in DOCUMENTS.values()
        for t in re.findall(r"^ *make ([a-z-]+)", text, re.MULTILINE)
    }
    inline = {t for text in DOCUMENTS.values() for t in re.findall(r"`make ([a-z-]+)", text)}
    assert named | inline <= targets
    assert {"demo", "test", "check", "pictures"} <= named


def test_the_worker_starts_as_the_page_says(
    broker_url: str, empty_postgres_url: str, tmp_path: Path
) -> None:
    script = shell_block("pip install '.[worker]'")
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
        pass  # It answers a lookup; otherwise the fixture fails.


def test_the_curl_commands_work(fresh_deployment: Deployment, tmp_path: Path) -> None:
    require_program("curl")
    for path in EXAMPLES.glob("*.csv"):
        shutil.copy(path, tmp_path)
    environment = fresh_deployment.environment
    run_enroll(environment, "submit", "students.csv", "courses.csv", cwd=tmp_path)
    scripts = [b for b in blocks("docs/http.md", "sh") if b.startswith("curl --fail-with-body")]
    outputs = []
    said_by = {}
    with serving(environment, tmp_path / "http.log") as (url, _):
        for line in "".join(scripts).splitlines():
            command = line.replace("http://localhost:8000", url)
            done = run_program("sh", "-c", command, cwd=tmp_path)
            assert done.returncode == 0, done.stdout + done.stderr
            outputs.append(done.stdout)
            said_by[line] = done.stdout
            # The page is for people, who go on once a submission has been processed.
            for path in re.findall(r'"url":"(/[^"]+)"', done.stdout):
                wait_for(partial(has_ended, url + path))
    assert '"status":"enrolled"' in outputs[1]
    assert '"LOGIC-1"' in outputs[2]
    assert '"state":"done"' in outputs[4]
    assert "5,unknown_course,no course has the SIS id 'LOGIK-1',S2,LOGIK-1" in outputs[5]
    read = [text for line, text in said_by.items() if re.search("/batches/(preview|check)", line)]
    assert ['"readable":true' in text for text in read] == [True] * 3
    searches = [text for line, text in said_by.items() if "?find=" in line]
    assert ['"sis_id":"S1"' in searches[0], '"sis_id":"LOGIC-1"' in searches[1]] == [True, True]
    (lines,) = (text for line, text in said_by.items() if "/errors/lines" in line)
    assert '"student_id":"S3"' in lines
    assert '"batch_id":"from-curl"' in outputs[-1]


def has_ended(url: str) -> bool:
    """Return whether a request or batch, or the plan of a batch, is not under way any more."""
    state = httpx.get(url, timeout=30).raise_for_status().json()["state"]
    return state not in {"queued", "running", "staged", "approved", "applying", "sweeping"}


def test_a_worker_for_some_queues_starts_as_the_page_says(
    broker_url: str, empty_postgres_url: str, tmp_path: Path
) -> None:
    migrate = [sys.executable, "-m", "worker.migrate"]
    environment = os.environ | {"ENROLL_DATABASE_URL": empty_postgres_url}
    subprocess.run(migrate, env=environment, cwd=ROOT, check=True, capture_output=True)
    batches, others = shell_block("celery -A worker worker -Q batches").splitlines()
    worker = partial(running_worker, broker_url, empty_postgres_url)
    with (
        # Only this one answers lookups.
        worker(tmp_path / "others", *shlex.split(others)[4:]),
        worker(tmp_path / "batches", *shlex.split(batches)[4:]),
    ):
        pass


def test_a_token_is_made_as_the_page_says(tmp_path: Path) -> None:
    require_program("openssl")
    script = shell_block("token=$(openssl rand -hex 32)")
    done = run_program("sh", "-euc", script)
    assert read_tokens([f"sis submit,lookup {done.stdout.split()[0]}"])
    (lines,) = re.findall(
        r"^```\n(sis .*?)```", DOCUMENTS["docs/http.md"], flags=re.MULTILINE | re.DOTALL
    )
    assert [token.name for token in read_tokens(lines.splitlines())] == [
        "sis",
        "registrar",
        "dashboard",
    ]


def test_a_migration_begins_as_the_page_says(tmp_path: Path) -> None:
    copy_of_repository(tmp_path)
    environment = os.environ | {"ENROLL_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}
    alembic, *arguments = shlex.split(shell_block("alembic revision --rev-id"))
    for command in ([sys.executable, "-m", "worker.migrate"], [str(BIN / alembic), *arguments]):
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    revision = arguments[arguments.index("--rev-id") + 1]
    (made,) = (tmp_path / "migrations" / "versions").glob(f"{revision}*")
    assert "Add first, remove a release later" in made.read_text()


def url_of(beginning: str) -> str:
    """Return the value of the only variable that a block of shell exports."""
    (_, assignment) = shlex.split(shell_block(beginning))
    return assignment.partition("=")[2]


def test_a_url_may_name_several_servers() -> None:
    broker = parse_sentinel_url(url_of("export ENROLL_BROKER_URL='sentinel://"))
    assert len(broker.sentinels) == 3
    assert broker.master_name == "enrollment"
    engine = make_engine(url_of("export ENROLL_DATABASE_URL='postgresql://enrollment@/"))
    _, options = engine.dialect.create_connect_args(engine.url)
    assert (options["host"], options["port"]) == ("db1,db2", "5432,5432")
    assert options["target_session_attrs"] == "read-write"


def test_a_url_may_name_a_pooler() -> None:
    engine = make_engine(url_of("export ENROLL_DATABASE_URL='postgresql://enrollment@pgbouncer"))
    assert engine.get_execution_options()["settings_per_transaction"]
    assert "pool_mode" not in engine.url.query


SHELL_LINES = [
    line
    for beginning in ("zcat", 'eval "$(enroll completion bash)"')
    for line in shell_block(beginning).splitlines()
]


def test_the_command_with_a_pipe_submits(fresh_deployment: Deployment, tmp_path: Path) -> None:
    pairs = "student_sis_id,course_sis_id\nS1,C1\n"
    (tmp_path / "enrollments.csv.gz").write_bytes(gzip.compress(pairs.encode()))
    (line,) = (line for line in SHELL_LINES if "zcat" in line)
    path = {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = run_program("sh", "-c", line, env=fresh_deployment.environment | path, cwd=tmp_path)
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
def test_the_command_for_completion_works(shell: list[str], script: str, tmp_path: Path) -> None:
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
