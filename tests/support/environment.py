"""The environment of a worker that does not connect to anything."""

import os

import pytest

GOOD = {"ENROLL_BROKER_URL": "redis://h/0", "ENROLL_DATABASE_URL": "postgresql://u@h/d"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set the two required variables, and none of our others."""
    for name in [name for name in os.environ if name.startswith("ENROLL_")]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch
