"""Lookups of several threads are sent together, and none of them harms another."""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from producer.errors import BrokerUnavailable, LookupFailed, NoWorkerAnswered
from producer.publishing.merging import MAX_SENT, MergedLookups
from support.stopwatch import Stopwatch


class Worker:
    """Answers each id with itself, slowly, and remembers what it was asked."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.seconds = seconds
        self.asked: list[list[Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def answer(self, ids: list[Any], timeout: float) -> list[Any]:
        with self._lock:
            self.asked.append(ids)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(min(self.seconds, timeout))
        with self._lock:
            self._at_once -= 1
        if self.seconds > timeout:
            raise NoWorkerAnswered("late")
        if "bad" in ids:
            raise LookupFailed("one of the ids is bad")
        if "broken" in ids:
            raise BrokerUnavailable("it is broken", "Repair it.")
        return [f"answer {i}" for i in ids]


def in_threads(work: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    def safely(value: Any) -> Any:
        try:
            return work(value)
        except (LookupFailed, NoWorkerAnswered, BrokerUnavailable) as error:
            return type(error)

    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(safely, values))


def test_lookups_that_wait_together_are_sent_together() -> None:
    merged, worker = MergedLookups(), Worker()
    names = [f"S{n}" for n in range(40)]
    begun: list[str] = []
    all_have_begun = threading.Event()

    def answer(ids: list[Any], timeout: float) -> list[Any]:
        assert all_have_begun.wait(30)  # Starting so many threads may take long.
        return worker.answer(ids, timeout)

    def ask(name: str) -> Any:
        begun.append(name)
        if len(begun) == len(names):
            all_have_begun.set()
        return merged.ask("sort", [name], 30, answer, 60)

    answers = in_threads(ask, names)
    assert answers == [[f"answer {i}"] for i in names]
    assert sorted(i for ids in worker.asked for i in ids) == sorted(names)
    assert len(worker.asked) < 10
    assert max(map(len, worker.asked)) <= 30
    assert worker.most_at_once <= MAX_SENT


def test_different_sorts_are_never_sent_together() -> None:
    merged, worker = MergedLookups(), Worker()

    def ask(number: int) -> Any:
        sort = number % 4
        return merged.ask(sort, [f"{sort}-{number}"], 30, worker.answer, 10)

    in_threads(ask, list(range(32)))
    for ids in worker.asked:
        assert len({i.partition("-")[0] for i in ids}) == 1


def test_a_bad_id_fails_the_lookup_that_names_it_and_no_other() -> None:
    merged, worker = MergedLookups(), Worker()
    names = [*(f"S{n}" for n in range(20)), "bad"]
    answers = in_threads(lambda i: merged.ask("sort", [i], 30, worker.answer, 10), names)
    assert answers == [*([f"answer {i}"] for i in names[:-1]), LookupFailed]


def test_every_waiting_lookup_learns_that_the_broker_is_unavailable() -> None:
    merged, worker = MergedLookups(), Worker()
    answers = in_threads(lambda i: merged.ask("sort", [i], 30, worker.answer, 10), ["broken"] * 10)
    assert answers == [BrokerUnavailable] * 10
    assert merged.ask("sort", ["S"], 30, worker.answer, 10) == ["answer S"]


def test_each_lookup_waits_as_long_as_it_may_itself() -> None:
    merged, worker = MergedLookups(), Worker(seconds=1.5)
    watch = Stopwatch(os.getpid())
    times = {}

    def ask(timeout: float) -> Any:
        try:
            return merged.ask("sort", [timeout], 30, worker.answer, timeout)
        finally:
            times[timeout] = watch.seconds()

    answers = in_threads(ask, [30.0, 30.1, 0.3, 0.4])
    assert answers[2:] == [NoWorkerAnswered] * 2
    assert max(times[0.3], times[0.4]) < 1.2
    assert len(answers[0]) == len(answers[1]) == 1


def test_a_thread_with_more_time_is_not_ended_with_the_one_that_sends() -> None:
    merged, worker = MergedLookups(), Worker(seconds=0.6)

    def ask(timeout: float) -> Any:
        time.sleep(0.1 * (timeout > 1))  # Those with little time come first, and lead.
        return merged.ask("sort", [timeout], 30, worker.answer, timeout)

    short = [1.0 + n / 1000 for n in range(MAX_SENT)]
    little = [0.8 + n / 1000 for n in range(MAX_SENT)]
    long = [30.0, 30.1, 30.2]
    answers = in_threads(ask, [*short, *little, *long])
    assert answers[-3:] == [[f"answer {timeout}"] for timeout in long]


def test_an_interrupted_thread_leaves_the_others_their_answers() -> None:
    merged, worker = MergedLookups(), Worker()
    was_interrupted = threading.Event()

    def interrupted(ids: list[Any], timeout: float) -> list[Any]:
        answers = worker.answer(ids, timeout)
        if not was_interrupted.is_set():
            was_interrupted.set()
            raise KeyboardInterrupt
        return answers

    def ask(name: str) -> Any:
        try:
            return merged.ask("sort", [name], 30, interrupted, 10)
        except KeyboardInterrupt:
            return "interrupted"

    answers = in_threads(ask, [f"S{n}" for n in range(12)])
    assert answers.count("interrupted") == 1
    assert sum(isinstance(answer, list) for answer in answers) == 11


@pytest.mark.parametrize("page", [1, 3])
def test_no_lookup_names_more_ids_than_fit(page: int) -> None:
    merged, worker = MergedLookups(), Worker(seconds=0.01)
    in_threads(lambda i: merged.ask("sort", [i], page, worker.answer, 30), list(range(24)))
    assert max(map(len, worker.asked)) <= page


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_order_every_thread_gets_its_answer(seed: int) -> None:
    merged = MergedLookups()
    chance = random.Random(seed)  # noqa: S311 - repeatable
    pauses = [[chance.choice([0, 0, 0.0005, 0.002, 0.01]) for _ in range(60)] for _ in range(12)]

    def answer(ids: list[Any], _timeout: float) -> list[Any]:
        time.sleep(chance.choice([0, 0.0005, 0.003]))
        if not chance.randrange(30):
            raise BrokerUnavailable("it is broken", "Repair it.")
        return ids

    def look_up_often(thread: int) -> int:
        answered = 0
        for number, pause in enumerate(pauses[thread]):
            time.sleep(pause)
            ids = [f"{thread} {number} {n}" for n in range(1 + number % 3)]
            with contextlib.suppress(BrokerUnavailable):
                assert merged.ask(number % 2, ids, 5, answer, 10) == ids
            answered += 1
        return answered

    assert in_threads(look_up_often, list(range(12))) == [60] * 12


def test_a_thread_that_is_interrupted_leaves_the_others_alone() -> None:
    merged = MergedLookups()

    def interrupted(_ids: list[Any], _timeout: float) -> list[Any]:
        raise KeyboardInterrupt

    for _ in range(2 * MAX_SENT):
        with pytest.raises(KeyboardInterrupt):
            merged.ask("sort", ["a"], 5, interrupted, 10)
    assert merged.ask("sort", ["a"], 5, lambda ids, _: ids, 10) == ["a"]
