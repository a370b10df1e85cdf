"""A shell that stays open, as a terminal does, and what is safe to print on a terminal."""

import subprocess
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

END = "--- end of output ---"


def is_harmless(printed: str) -> bool:
    """Return whether a terminal obeys no character of a line, and shows all of them."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") for c in printed)


class Terminal:
    """A shell in a folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._problems = (folder / ".." / "problems.txt").resolve().open("w+", encoding="utf-8")
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._problems,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shell.communicate(timeout=60)
        self._problems.close()

    def type(self, command: str) -> str:
        """Type a command, or several lines, and return what they print on standard output.

        The last one must end with 0, or with 1, which says that something was refused.
        """
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f'{command.rstrip()}\necho "{END}$?"\n')
        self._shell.stdin.flush()
        lines = []
        for line in self._shell.stdout:
            before, end, code = line.partition(END)
            lines.append(before)
            if end:
                self._problems.seek(0)
                assert code.strip() in {"0", "1"}, f"{command}: {self._problems.read()}"
                return "".join(lines)
        raise AssertionError(f"The shell has ended: {command}")
