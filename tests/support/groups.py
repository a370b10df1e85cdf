"""Divide the tests among the processes of a test run, so that all of them end at the same time.

Tests that share something expensive stay in one process. Those that take long begin first.
"""

import math
import zlib

import pytest

SHARES = 3
"""Into so many groups the tests of a shared deployment are divided, for each database."""

FOLDERS = ("faults", "acceptance", "integration", "unit")
"""The folders of tests, the slowest tests first."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put slow tests first, and add its group to the id of each test.

    pytest-xdist begins with the largest groups, and takes all other tests in this order. At the
    end of a run, a test that takes a minute would keep one process busy while the others wait.

    Since pytest 9.2, the ids of tests are no longer where pytest-xdist 3.8 writes the group: each
    process would build the wheel, or start a RabbitMQ, for its share of the tests.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    items.sort(key=_rank)
    for item in items:
        group = _group_of(item)
        if group is not None and not item.nodeid.endswith(f"@{group}"):
            item._id = type(item.id).parse(f"{item.nodeid}@{group}")  # noqa: SLF001


def _rank(item: pytest.Item) -> tuple[float, int]:
    """Return a smaller value for a slower test: one that may take longer, or in a slower folder."""
    marker = item.get_closest_marker("timeout")
    seconds = float(item.config.getini("timeout") if marker is None else marker.args[0])
    parts = item.path.parts
    folder = next((n for n, name in enumerate(FOLDERS) if name in parts), len(FOLDERS))
    return -(seconds or math.inf), folder


def _group_of(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("xdist_group")
    if marker is not None:
        return str(marker.args[0])
    callspec = getattr(item, "callspec", None)
    database = None if callspec is None else callspec.params.get("deployment")
    if database is None:
        return None
    # By module: what its tests share for a while is started once as well.
    return f"{database} {zlib.crc32(item.path.name.encode()) % SHARES}"
