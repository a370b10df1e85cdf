"""Decide how many messages of a queue one command takes, and make the command.

Alone, a message costs a round trip to Redis, which is most of what the main process does for it.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from producer.contract.routing import Queue, TaskName

AT_ONCE: Final = 32
"""The most messages that one command takes."""

SMALL_MESSAGE: Final = 4_096
"""Bytes of a message that may be taken together with others. All that are taken form groups, and so
count as held in advance only until they are decoded."""

GROUPED: Final[Mapping[str, TaskName]] = {
    Queue.ENROLLMENTS: TaskName.ENROLL,
    Queue.BATCHES: TaskName.ENROLL_BATCH,
}
"""The task whose small messages form groups, for each queue that has one."""

_TAKE: Final = files("worker.messaging").joinpath("take.lua").read_text(encoding="ascii")

Command = tuple[str | int | float, ...]


def count_at_once(queue: str, held: int) -> int:
    """Return how many slots the next command needs if a worker holds this many of the queue.

    A message that arrives alone is waited for: only with one more than runs is there a backlog.
    """
    return AT_ONCE if held > 1 and queue in GROUPED else 1


def take_several(key: str, slots: Sequence[str], queue: str) -> Command:
    """Return the command that moves messages that are there from a list into several slots."""
    return ("EVAL", _TAKE, 1 + len(slots), key, *slots, SMALL_MESSAGE, GROUPED[queue].value)
