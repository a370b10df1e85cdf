"""What the import contracts cannot say, read from the source: who may build SQL, and sizes."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import producer
import worker
from support.paths import ROOT as CHECKOUT

ROOT = Path(worker.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

TYPES_AND_ERRORS = {
    "sqlalchemy.Connection",
    "sqlalchemy.Engine",
    "sqlalchemy.engine.make_url",
}
"""What every module may import: what it needs to pass a connection on and to see it fail."""

STRINGS_OF_SQL = {"exec_driver_sql"}
"""Methods that run a string as SQL, without any import."""


def builds_sql(module: str) -> bool:
    """Return whether a module may build SQL."""
    path = Path(module)
    names = ("repository.py", "models.py", "plan_models.py", "model_base.py", "migrate.py")
    return path.name in names or path.parts[0] == "database"


def imports(source: str) -> set[str]:
    """Return what a module imports; `from a import b` counts as a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden_sql(source: str) -> Iterator[str]:
    """Yield the names with which a module builds SQL."""
    for name in imports(source):
        package = name.partition(".")[0]
        is_error = name.startswith("sqlalchemy.exc.")
        if package == "psycopg" or (
            package == "sqlalchemy" and name not in TYPES_AND_ERRORS and not is_error
        ):
            yield name
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in STRINGS_OF_SQL:
            yield node.attr


@pytest.mark.parametrize("module", [name for name in MODULES if not builds_sql(name)])
def test_only_repositories_build_sql(module: str) -> None:
    assert sorted(forbidden_sql((ROOT / module).read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "from sqlalchemy import Connection, select",
        "from sqlalchemy import text as words",
        "import sqlalchemy",
        "import sqlalchemy as sa",
        "from sqlalchemy.dialects import postgresql",
        "from sqlalchemy.sql.expression import func",
        "def late(): from sqlalchemy import insert",
        "import psycopg",
        "connection.exec_driver_sql('DELETE FROM students')",
    ],
)
def test_sql_in_another_module_is_detected(source: str) -> None:
    assert list(forbidden_sql(source))


def test_types_and_errors_are_free_to_all() -> None:
    source = "from sqlalchemy import Connection, Engine\nfrom sqlalchemy.exc import DBAPIError"
    assert list(forbidden_sql(source)) == []


def test_the_list_of_modules_that_build_sql_is_complete() -> None:
    """A new module with SQL is a decision, which is recorded here."""
    assert {str(Path(name).parent) for name in MODULES if builds_sql(name)} == {
        ".",
        "batches",
        "batches/members",
        "batches/places",
        "data_sets",
        "data_sets/losses",
        "database",
        "dead_letters",
        "enrollment",
        "enrollment/derived",
        "enrollment/loading",
        "history",
        "intervals",
        "intervals/undone",
        "plans",
        "plans/reports",
        "plans/temporary",
        "refused_lines",
        "retention",
        "retention/plans",
        "roster",
        "roster/search",
        "snapshots",
        "snapshots/swept",
        "undo",
        "undo/events",
        "undo/owners",
    }


@pytest.mark.parametrize(
    "module", ["enrollment/order.py", "enrollment/rules.py", "enrollment/values.py"]
)
def test_the_rules_import_neither_sql_nor_a_repository(module: str) -> None:
    found = imports((ROOT / module).read_text())
    assert {name for name in found if name.partition(".")[0] in ("sqlalchemy", "psycopg")} == set()
    assert {name for name in found if "repository" in name or "database" in name} == set()


# --- Sizes ------------------------------------------------------------------------------------

MODULE_LINES, FUNCTION_LINES = 400, 45
"""What fits into a head. A module that grows beyond it holds more than one thing."""

SOURCES = sorted((*ROOT.rglob("*.py"), *Path(producer.__file__).parent.rglob("*.py")))


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_modules_and_functions_are_short(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MODULE_LINES
    lines = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions(source)}
    assert {name: n for name, n in lines.items() if n > FUNCTION_LINES} == {}


def test_the_wheel_has_every_package() -> None:
    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    folders = {path.parent.relative_to(CHECKOUT) for path in SOURCES}
    listed = set(pyproject["tool"]["setuptools"]["packages"])
    elsewhere = {"worker.migrations", "worker.migrations.versions"}
    assert listed - elsewhere == {".".join(folder.parts) for folder in folders}
