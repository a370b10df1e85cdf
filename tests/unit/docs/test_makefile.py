"""`make clean` removes only what can be built again."""

import shutil
from pathlib import Path

import pytest

from support.commands import run_program
from support.paths import ROOT
from support.requirements import require_program


@pytest.mark.parametrize(("target", "left"), [("clean", [".enroll"]), ("clean-data", ["build"])])
def test_the_data_of_a_stack_are_deleted_only_by_their_own_target(
    tmp_path: Path, target: str, left: list[str]
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in (".enroll", "build"):
        (tmp_path / folder).mkdir()
    done = run_program(require_program("make"), target, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", *left}
    assert "rm -rf" in done.stdout  # It says what it deletes.
