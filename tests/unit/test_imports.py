"""What imports load: a submitter needs no SQL, and no import opens a connection."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import producer
import worker
from support.commands import clean_environment, run_python
from support.paths import ROOT
from support.workers import worker_environment

MODULES = [module.name for module in pkgutil.walk_packages(worker.__path__, "worker.")]

LOADED = """
import importlib, sys
importlib.import_module({module!r})
print(*{{name.partition(".")[0] for name in sys.modules}})
"""

COLLECTIONS = "sum(generation['collections'] for generation in gc.get_stats())"

NAMES = "print(*{name.partition('.')[0] for name in sys.modules})"

NO_SOCKETS = """
import sys

def refuse(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event}{arguments}")

sys.addaudithook(refuse)
"""

IMPORT_EACH = """
import gc, importlib, os, traceback

gc.disable()  # Looking for garbage takes a quarter as long as the imports, which create none.
# The libraries are loaded once; each module of ours is then imported alone, in a fork.
for library in ("alembic.config", "celery.app.base", "celery.apps.worker", "celery.backends.redis",
                "celery.concurrency.asynpool", "click", "kombu.transport.redis",
                "prometheus_client.multiprocess", "psycopg", "pydantic_settings", "redis",
                "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "structlog", "tenacity"):
    importlib.import_module(library)
assert not {name.partition(".")[0] for name in sys.modules} & {"worker", "producer"}

def in_fork(work):
    if not (child := os.fork()):
        work()
        os._exit(0)
    os.waitpid(child, 0)

def report_import(module):
    try:
        importlib.import_module(module)
    except BaseException:
        print(module, traceback.format_exc(), flush=True)

# What most modules import takes half of the time, and is then loaded once, too. Each module of the
# worker that this loads is imported alone before; the producer imports no module of the worker.
def load_shared():
    for module in ("producer.schemas", "producer.contract.chunks", "worker.models",
                   "worker.database.sets"):
        importlib.import_module(module)

def write_loaded():
    load_shared()
    loaded = [name for name in sys.modules if name.partition(".")[0] == "worker"]
    os.write(writer, " ".join(loaded).encode())

reader, writer = os.pipe()
in_fork(write_loaded)
os.close(writer)
with open(reader) as names:
    shared = names.read().split()
assert "worker.models" in shared
for module in sys.argv[1:]:
    if module in shared:
        in_fork(lambda: report_import(module))
load_shared()
for module in sys.argv[1:]:
    if module not in shared:
        in_fork(lambda: report_import(module))
print("all", len(sys.argv) - 1)
"""


def run(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=clean_environment(), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", ["producer.cli", "producer.client", "producer.schemas"])
def test_a_submitter_loads_neither_sql_nor_the_worker(module: str) -> None:
    done = run(LOADED.format(module=module))
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "producer" in loaded
    assert loaded & {"worker", "sqlalchemy", "alembic", "psycopg", "pydantic_settings"} == set()


def test_importing_the_producer_loads_nothing_else() -> None:
    done = run("import producer, sys; print(*(n for n in sys.modules if 'producer' in n));" + NAMES)
    assert done.returncode == 0, done.stderr
    ours, loaded = done.stdout.splitlines()
    assert ours == "producer"
    libraries = {"celery", "kombu", "redis", "pydantic", "sqlalchemy", "click", "rich"}
    assert libraries & set(loaded.split()) == set()


def test_what_can_be_imported_from_the_producer_is_what_its_modules_define() -> None:
    typed = {name for name in imports(ROOT / "producer/__init__.py") if name.startswith("producer")}
    by_name = {path.rpartition(".")[2]: path.rpartition(".")[0] for path in typed}
    assert by_name.keys() == set(producer.__all__)
    for name, module in by_name.items():
        assert getattr(producer, name) is getattr(importlib.import_module(module), name)
    assert set(producer.__all__) <= set(dir(producer))
    errors = importlib.import_module("producer.errors")
    public = {name: kind for name, kind in vars(errors).items() if name[0] != "_"}
    own = {name for name, kind in public.items() if kind.__class__ is type}
    assert {n for n in own if vars(errors)[n].__module__ == "producer.errors"} <= by_name.keys()
    with pytest.raises(AttributeError, match="has no attribute 'EnrolmentClient'"):
        producer.EnrolmentClient  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'EnrolmentClient'"):
        exec("from producer import EnrolmentClient")  # noqa: S102


def test_a_module_of_the_worker_needs_no_environment_and_opens_no_socket() -> None:
    modules = sorted({*MODULES} - {"worker.celery", "worker.migrations"})
    done = run(NO_SOCKETS + IMPORT_EACH, *modules)
    assert (done.stdout, done.stderr) == (f"all {len(modules)}\n", "")


def test_the_guard_against_sockets_catches_one(tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text("import socket; socket.socket()")
    path = f"sys.path.insert(0, {str(tmp_path)!r})\n"
    done = run(NO_SOCKETS + path + IMPORT_EACH, "calls", "worker.models", "worker.nowhere")
    assert "RuntimeError: socket.__new__" in done.stdout
    assert "No module named 'worker.nowhere'" in done.stdout
    assert "worker.models" not in done.stdout


def test_worker_celery_names_the_missing_variable() -> None:
    done = run("import worker.celery")
    assert done.returncode == 1
    assert "ENROLL_DATABASE_URL: is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_app_of_a_worker_is_loaded_without_looking_for_garbage() -> None:
    code = f"import gc; before = {COLLECTIONS}; import worker.celery; print({COLLECTIONS} - before)"
    done = run_python(
        "-c", f"{code}; print(gc.isenabled(), gc.get_count()[0])",
        env=worker_environment("redis://localhost:1/0", "sqlite://"), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    collections, is_enabled, objects = done.stdout.split()
    assert (collections, is_enabled) == ("0", "True")
    assert int(objects) < 1_000  # Those of the app are no longer looked at.


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
        "producer.fields",
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
