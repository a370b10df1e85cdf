"""The variables of a worker that is not going to connect."""

import os

import pytest

GOOD = {"ENROLL_BROKER_URL": "redis://h/0", "ENROLL_DATABASE_URL": "postgresql://u@h/d"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The two variables that must be there, and no other of ours."""
    for name in [name for name in os.environ if name.startswith("ENROLL_")]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch
