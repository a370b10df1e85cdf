"""The groups of tests that share something expensive."""

import pytest


@pytest.mark.xdist_group("groups")
def test_the_scheduler_sees_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    is_scheduled = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@groups") == is_scheduled
