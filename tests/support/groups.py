"""Keep tests that share something expensive in one process of the test run."""

import zlib

import pytest

SHARES = 3
"""Into so many groups the tests of a shared deployment are divided, for each database."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add its group to the id of each test, where pytest-xdist has not done so.

    Since pytest 9.2, the ids of tests are no longer where pytest-xdist 3.8 writes the group: each
    process would build the wheel, or start a RabbitMQ, for its share of the tests.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        group = _group_of(item)
        if group is not None and not item.nodeid.endswith(f"@{group}"):
            item._id = type(item.id).parse(f"{item.nodeid}@{group}")  # noqa: SLF001


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
