"""Run a module of the page in Node."""

import json
import subprocess
from typing import Any

from support.paths import ROOT
from support.requirements import require_program

_PAGE = ROOT / "producer" / "web" / "page"


def run_module(module: str, expression: str, value: Any) -> Any:
    """Evaluate an expression over a module of the page (`page`) and a value (`value`)."""
    script = (
        f"import * as page from {json.dumps((_PAGE / module).as_uri())};"
        f"const value = {json.dumps(value)};"
        f"console.log(JSON.stringify({expression}));"
    )
    command = [require_program("node"), "--input-type=module", "--no-warnings", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
