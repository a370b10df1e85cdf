"""Find the stack of `enroll up` that runs in a folder, and read how to reach it."""

import contextlib
import json
import os
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(".enroll")
STATE: Final = "stack.json"


class RunningStack(NamedTuple):
    """How to reach a stack that runs."""

    broker_url: str
    key_prefix: str


def find_running() -> RunningStack | None:
    """Return the stack that runs in this folder or one above it, or None."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = json.loads((folder / FOLDER / STATE).read_text())
            os.kill(state["pid"], 0)
            return RunningStack(str(state["broker_url"]), state.get("ENROLL_KEY_PREFIX", ""))
    return None
