"""Small chunks form groups; others keep their place and start alone, on a fake pool."""

from typing import Any

import pytest

from producer.contract.headers import MOMENT_HEADER
from support.celery_consumer import PREFETCH, CeleryConsumer, enroll, request
from worker.messaging.chunk_grouping import SMALL_CHUNK, ChunkGrouping
from worker.messaging.grouping import MAX_HELD

MOMENT = {MOMENT_HEADER: "2026-09-01T08:00:00.000000Z"}


@pytest.fixture
def celery_consumer() -> CeleryConsumer:
    return CeleryConsumer()


@pytest.fixture
def grouping(celery_consumer: CeleryConsumer) -> ChunkGrouping:
    return ChunkGrouping(enroll, celery_consumer)


def arrive(grouping: ChunkGrouping, consumer: CeleryConsumer, names: str) -> None:
    """Let chunks arrive: s is small, d drops, L is large, r is a roster; others have no moment."""
    for name in names.split():
        text = {"d": '"drop_course_ids"', "D": '"drop_course_ids"', "L": "x" * SMALL_CHUNK}
        chunk = f'{{"batch_id": "b", {text.get(name[0], "")}}}'
        moment: dict[str, Any] = MOMENT if name[0].islower() else {}
        queued = request(consumer, name, [[chunk], {}, {}], **moment)
        if name[0] == "r":
            queued.name = "roster"
        grouping.on_task_request(queued)


def test_small_chunks_that_arrive_while_a_group_runs_form_the_next_group(
    grouping: ChunkGrouping, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "s0 s1 s2")
    celery_consumer.pool.end()
    celery_consumer.pool.end()
    assert celery_consumer.pool.groups == [["s0"], ["s1", "s2"]]
    assert celery_consumer.acknowledged == ["s0", "s1", "s2"]


def test_large_chunks_and_rosters_start_at_once_if_nothing_waits(
    grouping: ChunkGrouping, celery_consumer: CeleryConsumer
) -> None:
    arrive(grouping, celery_consumer, "L0 r1 s2 L3 r4")
    assert celery_consumer.run_singly == ["L0", "r1", "L3", "r4"]
    assert celery_consumer.pool.groups == [["s2"]]


@pytest.mark.parametrize(
    ("waiting", "groups", "alone"),
    [
        ("s1 L2 s3", [["s1"], ["s3"]], ["L2"]),
        ("s1 r2 r3 s4", [["s1"], ["s4"]], ["r2", "r3"]),
        ("d1 s2 d3", [["d1", "d3"], ["s2"]], []),
        ("s1 d2 r3 s4 d5", [["s1"], ["d2"], ["s4"], ["d5"]], ["r3"]),
        ("D1 S2 D3", [["D1"], ["S2"], ["D3"]], []),
    ],
)
def test_nothing_overtakes_what_its_result_may_depend_on(
    grouping: ChunkGrouping,
    celery_consumer: CeleryConsumer,
    waiting: str,
    groups: list[list[str]],
    alone: list[str],
) -> None:
    arrive(grouping, celery_consumer, "first")
    arrive(grouping, celery_consumer, waiting)
    for _ in groups:
        before = {name for group in celery_consumer.pool.groups for name in group}
        # What starts alone starts only after everything that came before it has started.
        assert all(
            {n for n in waiting.split() if n[1:] < name[1:]} <= {*before, *alone}
            for name in celery_consumer.run_singly
        )
        celery_consumer.pool.end()
    assert celery_consumer.pool.groups[1:] == groups
    assert celery_consumer.run_singly == alone


def test_only_small_chunks_raise_the_limit_and_only_for_their_own_queue(
    grouping: ChunkGrouping, celery_consumer: CeleryConsumer
) -> None:
    raised: list[tuple[str, int]] = []

    class Channel:
        @staticmethod
        def note_raised(queue: str, messages: int) -> None:
            raised.append((queue, messages))

    for name in ("s0", "s1", "L2"):
        size = SMALL_CHUNK if name[0] == "L" else 1
        queued = request(celery_consumer, name, [["x" * size], {}, {}])
        queued.message.channel = Channel()
        grouping.on_task_request(queued)
    assert raised == [("batches", 1), ("batches", 2)]
    assert celery_consumer.qos.value == PREFETCH + 2
    celery_consumer.pool.end()
    celery_consumer.pool.end()
    assert raised[-1] == ("batches", 0)
    assert celery_consumer.qos.value == PREFETCH


def test_the_number_and_the_size_of_what_waits_are_bounded(
    grouping: ChunkGrouping, celery_consumer: CeleryConsumer
) -> None:
    for number in range(MAX_HELD + 10):
        chunk = "[" * 3_000  # Decoded, each bracket takes a hundred bytes.
        grouping.on_task_request(request(celery_consumer, f"s{number}", [[chunk], {}, {}]))
    assert celery_consumer.qos.value - PREFETCH < MAX_HELD
    while len(celery_consumer.acknowledged) < MAX_HELD + 10:
        celery_consumer.pool.end()
    assert max(map(len, celery_consumer.pool.groups)) == 1
    assert celery_consumer.qos.value == PREFETCH
