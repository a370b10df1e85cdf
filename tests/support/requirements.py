"""Decide what a test does if a program or a server that it needs is missing.

It is skipped on a developer's machine, and fails in continuous integration (`CI` is set), where
it would otherwise be skipped forever without being noticed.
"""

import os
import shutil
from typing import NoReturn

import pytest


def report_missing(what: str) -> NoReturn:
    """Skip the test; fail it if `CI` is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} This is a failure because CI is set.", pytrace=False)
    pytest.skip(what)


def require_program(*names: str) -> str:
    """Return the path of the first of these programs that is installed."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    missing = " or ".join(names)
    report_missing(f"{missing} is not installed; on Debian: .ci/install-debian-packages.")
