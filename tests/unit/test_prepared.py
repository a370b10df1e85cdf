"""A program that the prepared process runs ends like one that was started as usual."""

import os
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest

from support.prepared import Prepared

ENDS = {
    "at its last line": "",
    "with a code": "sys.exit(3)",
    "with a large code": "sys.exit(259)",
    "with a message": "sys.exit('out of paper')",
    "with an exception": "raise ValueError('no such tray')",
    "while a thread runs": "threading.Timer(0.3, print, ['thread']).start(); sys.exit(4)",
    "by a signal": f"sys.stdout.flush(); os.kill(os.getpid(), {signal.SIGTERM})",
}

PROGRAM = """
import atexit, os, sys, threading
atexit.register(print, "registered")
print("begun")
{end}
"""

BUFFERED = "import sys; sys.stdout = open(1, 'w', closefd=False); print('begun')"
"""Writes its line at its end only, also where Python is set to write at once."""


def end_of(folder: Path, *command: str, fresh: bool, **options: int) -> tuple[int, str, str]:
    """Run `program.py` and return its exit code and output, without the lines of tracebacks.

    `command` are other arguments of Python.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = command or ("-m", "program")
    with Prepared(command, fresh=fresh, env=dict(os.environ), cwd=folder, **pipes) as process:
        out, err = process.communicate(timeout=60)
    errors = "".join(line for line in err.decode().splitlines(keepends=True) if line[0] != " ")
    return process.returncode, (out or b"").decode(), errors


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_program_ends_as_usual(tmp_path: Path, end: str) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM).format(end=end))
    assert end_of(tmp_path, fresh=False) == end_of(tmp_path, fresh=True)


def test_code_on_the_command_line_runs_as_usual(tmp_path: Path) -> None:
    code = """if True:
        import sys
        def end():
            print(__name__, sys.argv)
            sys.exit(5)
        end()
    """
    command = ("-c", code, "one", "two")
    ended = end_of(tmp_path, *command, fresh=False)
    assert ended == end_of(tmp_path, *command, fresh=True)
    assert ended == (5, "__main__ ['-c', 'one', 'two']\n", "")


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(BUFFERED)
    with Path("/dev/full").open("wb") as full:
        code, _, errors = end_of(tmp_path, fresh=False, stdout=full.fileno())
        assert (code, errors) == end_of(tmp_path, fresh=True, stdout=full.fileno())[::2]
    assert code == 120
    assert "No space left on device" in errors
