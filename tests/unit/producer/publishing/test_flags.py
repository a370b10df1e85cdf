"""A flag of a call is True or False; anything else is refused before anything is done."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.errors import InvalidRequest
from producer.testing import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from support.clients import blocking
from support.valkey import free_port

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "submit_batch": ("students", []),
    "submit_file": ("no-such-file.csv",),
    "undo": ("night",),
    "batch": ("night",),
    "batches": (["night"],),
}
"""What the verbs with flags need besides."""

WRONG = ["no", 0, None]


def _flags(verb: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(verb).parameters.values()
    return [p.name for p in parameters if p.annotation in (bool, "bool")]


FLAGS = [
    (name, flag)
    for name, verb in inspect.getmembers(EnrollmentClient, inspect.isfunction)
    if not name.startswith("_")
    for flag in _flags(verb)
]


def _real() -> str:
    """Return the URL of a broker that is not there: a call that reaches it fails otherwise."""
    return f"redis://127.0.0.1:{free_port()}/0"


@pytest.fixture(scope="module", params=["real", "asynchronous", "fake", "asynchronous fake"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "real":
        yield EnrollmentClient(_real(), timeout=1)
    elif request.param == "fake":
        yield FakeEnrollmentClient()
    else:
        url = _real()
        is_fake = request.param == "asynchronous fake"
        with blocking(
            lambda: (
                FakeAsyncEnrollmentClient() if is_fake else AsyncEnrollmentClient(url, timeout=1)
            )
        ) as waiting:
            yield waiting


@pytest.mark.parametrize(("verb", "flag"), FLAGS)
def test_what_is_neither_true_nor_false_is_refused(client: Any, verb: str, flag: str) -> None:
    for value in WRONG:
        with pytest.raises(InvalidRequest, match=f"{flag}: must be True or False, not ") as caught:
            getattr(client, verb)(*ARGUMENTS[verb], **{flag: value})
        assert [problem.field for problem in caught.value.problems] == [flag]


def test_the_message_shows_the_value(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"'no', which is a str$"):
        FakeEnrollmentClient().submit_file(tmp_path / "f.csv", dry_run="no")  # type: ignore[arg-type]
