"""Divide the tests among the processes of a test run, so that all of them end at the same time.

Tests that share something expensive stay in one process. Those that take long begin first. What a
group of tests shares ends with the last of them: until the end of the run, it would use a hundredth
of a processor, and a browser would keep the event loop of the process.
"""

import math
import zlib

import pytest

SHARES = 3
"""Into so many groups the tests of a shared deployment are divided, for each database."""

SLOW_PART = 0.7
"""The part of the order of all tests in which the slow ones are."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put slow tests first, and add its group to the id of each test.

    pytest-xdist begins with the largest groups, and takes all other tests in this order.

    Since pytest 9.2, the ids of tests are no longer where pytest-xdist 3.8 writes the group: each
    process would build the wheel, or start a RabbitMQ, for its share of the tests.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    items[:] = _slow_first(items)
    for item in items:
        group = _group_of(item)
        if group is not None and not item.nodeid.endswith(f"@{group}"):
            item._id = type(item.id).parse(f"{item.nodeid}@{group}")  # noqa: SLF001


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End what the next test does not share, after all that depends on it has ended."""
    is_grouped = getattr(item.config.option, "loadgroup", False)
    if is_grouped and (nextitem is None or _group_of(nextitem) != _group_of(item)):
        _end(item, "deployment")
    if nextitem is None or "browser" not in _fixtures_of(nextitem):
        _end(item, "browser")


def _fixtures_of(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def _end(item: pytest.Item, fixture: str) -> None:
    """End a fixture of the whole run, if a test of this process has started it."""
    if isinstance(item, pytest.Function):
        for definition in item._fixtureinfo.name2fixturedefs.get(fixture, ()):  # noqa: SLF001
            definition.finish(item._request)  # type: ignore[arg-type]  # noqa: SLF001


def _slow_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Spread the fast tests over the whole order, and the slow ones over the beginning of it.

    The slow ones mostly wait; meanwhile the fast ones use the processors. At the end, a slow one
    would keep one process busy while the others have nothing left to do.
    """
    fast = [item for item in items if "unit" in item.path.parts]
    slow = sorted((item for item in items if "unit" not in item.path.parts), key=_rank)
    placed = [(n / len(fast), item) for n, item in enumerate(fast)]
    placed += [(SLOW_PART * n / len(slow), item) for n, item in enumerate(slow)]
    return [item for _, item in sorted(placed, key=lambda place: place[0])]


def _rank(item: pytest.Item) -> float:
    """Return a smaller value for a test that may take longer."""
    marker = item.get_closest_marker("timeout")
    own = marker.args if marker else ()
    seconds = float(own[0] if own else item.config.getini("timeout"))
    return -(seconds or math.inf)


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
