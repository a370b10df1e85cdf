"""What imports load: a submitter needs no SQL, and no import opens a connection."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import worker
from support.commands import clean_environment
from support.paths import ROOT

MODULES = [module.name for module in pkgutil.walk_packages(worker.__path__, "worker.")]

LOADED = """
import importlib, sys
importlib.import_module({module!r})
print(*{{name.partition(".")[0] for name in sys.modules}})
"""

NO_SOCKETS = """
import importlib, sys

def refuse(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{{event}}{{arguments}}")

sys.addaudithook(refuse)
importlib.import_module({module!r})
{then}
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=clean_environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", ["producer.cli", "producer.client", "producer.schemas"])
def test_a_submitter_loads_neither_sql_nor_the_worker(module: str) -> None:
    done = run(LOADED.format(module=module))
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "producer" in loaded
    assert loaded & {"worker", "sqlalchemy", "alembic", "psycopg", "pydantic_settings"} == set()


@pytest.mark.parametrize("module", sorted({*MODULES} - {"worker.celery", "worker.migrations"}))
def test_a_module_of_the_worker_needs_no_environment_and_opens_no_socket(module: str) -> None:
    done = run(NO_SOCKETS.format(module=module, then=""))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_guard_against_sockets_catches_one() -> None:
    done = run(NO_SOCKETS.format(module="socket", then="socket = sys.modules['socket'].socket()"))
    assert "RuntimeError: socket.__new__" in done.stderr


def test_worker_celery_names_the_missing_variable() -> None:
    done = run("import worker.celery")
    assert done.returncode == 1
    assert "ENROLL_DATABASE_URL: is not set" in done.stderr
    assert "Traceback" not in done.stderr


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports; `from producer import x` counts as producer.x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: say the module's whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_worker_imports_only_the_contract_from_the_producer() -> None:
    found = set().union(*map(imports, (ROOT / "worker").rglob("*.py")))
    of_producer = {name for name in found if name.partition(".")[0] == "producer"}
    assert of_producer
    assert {".".join(name.split(".")[:2]) for name in of_producer} <= {
        "producer.schemas",
        "producer.contract",
    }


def test_every_module_of_the_worker_is_checked() -> None:
    files = {path.relative_to(ROOT) for path in (ROOT / "worker").rglob("*.py")}
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert {*MODULES, "worker"} == names


def test_the_help_lists_the_operators_commands_without_importing_them() -> None:
    code = "from producer.cli import enroll; enroll(['--help'], standalone_mode=False)"
    done = run(f"{code}; import sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    text, _, loaded = done.stdout.rstrip().rpartition("\n")
    assert "dead-letters" in text
    assert "prune" in text
    assert {"worker", "sqlalchemy", "alembic"} & set(loaded.split()) == set()
