"""A process pauses after a refusal, longer after each, and tries again after the pause."""

import pickle
import time

import pytest

from worker.messaging.unavailable import DatabaseUnavailable
from worker.recovery import circuit
from worker.recovery.circuit import FIRST_PAUSE, LONGEST_PAUSE, Circuit


def test_it_lets_work_through_until_the_database_refuses_some() -> None:
    made = Circuit()
    made.check()
    made.open("no right")
    with pytest.raises(DatabaseUnavailable, match="no right"):
        made.check()


def test_each_refusal_doubles_the_pause_up_to_a_limit() -> None:
    made = Circuit()
    pauses = [made.open("no right").pause for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_work_that_succeeds_makes_the_next_pause_short_again() -> None:
    made = Circuit()
    for _ in range(5):
        made.open("no right")
    made.close()
    assert made.open("no right").pause == FIRST_PAUSE


def test_after_the_pause_work_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "FIRST_PAUSE", 0.05)
    made = Circuit()
    made.open("no right")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            made.check()
        except DatabaseUnavailable:
            continue
        return
    raise AssertionError("the circuit stayed open")


def test_the_main_process_gets_the_whole_error() -> None:
    error = pickle.loads(pickle.dumps(DatabaseUnavailable("no right", 1.5, "why")))  # noqa: S301
    assert (error.reason, error.requeue, error.pause) == ("no right", True, 1.5)
    assert error.refusal == "why"
