"""Run `enroll` as people do, in a process of its own, or within the process of the test."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from producer.cli import enroll
from support.prepared import Prepared

ENROLL = [sys.executable, "-m", "producer"]
GOOD, REFUSED, USAGE, UNREACHABLE, CANNOT_FINISH, HELD, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
"""The exit codes of `enroll`."""


def clean_environment() -> dict[str, str]:
    """Return the environment of this process without our own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ENROLL_")}


def run_enroll(
    environment: Mapping[str, str],
    *arguments: str | Path,
    expect: int = GOOD,
    given: str | bytes | None = None,
    cwd: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command that must end with the given exit code and without a traceback.

    `given` is its standard input.
    """
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    if given is not None:
        pipes["stdin"] = subprocess.PIPE
    with Prepared(["-m", "producer", *arguments], env=environment, cwd=cwd, **pipes) as process:
        try:
            out, err = process.communicate(
                given.encode() if isinstance(given, str) else given, timeout=120
            )
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out.decode(), err.decode())
    assert done.returncode == expect, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def start_enroll(
    environment: Mapping[str, str],
    *arguments: str | Path,
    cwd: Path | None = None,
    fresh: bool = False,
) -> "subprocess.Popen[str]":
    """Start a command whose output can be read while it runs; `Prepared` explains `fresh`."""
    return Prepared(
        ["-m", "producer", *arguments],
        fresh=fresh,
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run_program(
    *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run any other program; the test checks its exit code."""
    return subprocess.run(
        [str(part) for part in command],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def run_python(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m MODULE ...` or `python -c CODE ...`; the test checks its exit code.

    The process has our modules and libraries before it starts: it is not for tests of imports.
    """
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with Prepared(arguments, env=env, cwd=cwd, text=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def invoke_enroll(*arguments: str, given: str | None = None, **variables: str | None) -> Result:
    """Run a command within this process; a variable that is None is not set.

    `given` is its standard input.
    """
    return CliRunner().invoke(enroll, arguments, given, variables, prog_name="enroll")


def invoke_on_terminal(*arguments: str, typed: str = "", **variables: str | None) -> Result:
    """Run a command within this process as on a terminal, on which this is typed."""
    return _Terminal().invoke(enroll, arguments, typed, variables, prog_name="enroll")


class _Terminal(CliRunner):
    """Runs commands whose streams say that they are terminals."""

    @contextmanager
    def isolation(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        with super().isolation(*arguments, **options) as streams:
            for stream in (sys.stdin, sys.stdout, sys.stderr):
                stream.isatty = lambda: True  # type: ignore[method-assign]
            yield streams
